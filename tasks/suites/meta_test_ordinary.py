"""Problems of ordinary size to judge on. Each description says whether meta-training has seen the dataset at another
size. Most need data that are not embedded (`tasks.datasets.load`).
"""

from tasks.base import Data
from tasks.datasets.load import load_dataset
from tasks.datasets.text import load_text
from tasks.families.images.image_cnn import image_cnn
from tasks.families.images.image_mlp import image_mlp
from tasks.families.images.image_resnet import image_resnet
from tasks.families.images.image_vit import image_vit
from tasks.families.sequences.text_rnn import text_rnn
from tasks.families.sequences.text_transformer import text_transformer
from tasks.networks.language_model import compact_vocabulary
from tasks.suites.entry import SuiteEntry


def _shakespeare_64() -> Data:
    return compact_vocabulary(load_text("tiny_shakespeare", row_length=65))[0]


META_TEST_ORDINARY: dict[str, SuiteEntry] = {
    "fmnist28_mlp128x128": SuiteEntry(
        make=lambda: image_mlp(load_dataset("fashion_mnist"), (128, 128), "fmnist28_mlp128x128"),
        description="Fashion-MNIST at 28x28, MLP 784-128-128-10 (not embedded; dataset seen at 8x8)",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=118_282,
    ),
    "fmnist28_mlp512x512": SuiteEntry(
        make=lambda: image_mlp(load_dataset("fashion_mnist"), (512, 512), "fmnist28_mlp512x512"),
        description="Fashion-MNIST at 28x28, MLP 784-512-512-10 (not embedded; dataset seen at 8x8)",
        dataset="fashion_mnist",
        architecture="mlp",
        num_params=669_706,
    ),
    "cifar10_cnn": SuiteEntry(
        make=lambda: image_cnn(load_dataset("cifar10"), (32, 64, 64), "cifar10_cnn"),
        description="CIFAR-10, three 3x3 convolutions of 32, 64 and 64 channels (not embedded; dataset unseen)",
        dataset="cifar10",
        architecture="cnn",
        num_params=56_970,
    ),
    "cifar10_resnet": SuiteEntry(
        make=lambda: image_resnet(load_dataset("cifar10"), widths=(32, 64, 128), name="cifar10_resnet"),
        description="CIFAR-10, ResNet of three stages with group normalisation (not embedded; dataset unseen)",
        dataset="cifar10",
        architecture="resnet",
        num_params=308_650,
    ),
    "omniglot28_vit": SuiteEntry(
        make=lambda: image_vit(
            load_dataset("omniglot", image_size=28),
            patch_size=4,
            hidden_size=64,
            depth=3,
            name="omniglot28_vit",
            num_classes=659,
        ),
        description="Omniglot at 28x28, 659 characters, vision transformer of three blocks (not embedded; unseen)",
        dataset="omniglot",
        architecture="vit",
        num_params=147_027,
    ),
    "shakespeare_transformer": SuiteEntry(
        make=lambda: text_transformer(_shakespeare_64(), 65, hidden_size=128, depth=2, name="shakespeare_transformer"),
        description="Characters of Tiny Shakespeare (65), sequences of 64, two-block decoder of width 128 (unseen)",
        dataset="tiny_shakespeare",
        architecture="decoder_transformer",
        num_params=420_864,
    ),
    "shakespeare_lstm128": SuiteEntry(
        make=lambda: text_rnn(_shakespeare_64(), 65, "lstm", 128, name="shakespeare_lstm128"),
        description="Characters of Tiny Shakespeare (65), sequences of 64, LSTM of width 128 (unseen)",
        dataset="tiny_shakespeare",
        architecture="lstm",
        num_params=148_289,
    ),
}
