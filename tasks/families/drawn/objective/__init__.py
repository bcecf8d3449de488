"""Problems whose objective is drawn at random: contrastive, generative, decision and other losses."""
