import pytest

from hark.models.language_model import new_language_model
from hark.models.tokenizer import train_tokenizer

WORDS = "the cat sat on the mat and the dog ran to the park while the sun was out. "


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer([WORDS] * 4, vocabulary_size=300)


@pytest.fixture(scope="session")
def make_model(tokenizer):
    def make(seed: int = 0, context: int = 32):
        return new_language_model(
            "0.5m",
            vocabulary_size=len(tokenizer),
            context_length=context,
            seed=seed,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )

    return make
