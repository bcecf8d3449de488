"""Images: classifiers, an autoencoder, self-supervision, hypernetworks."""
