"""The pretraining text that PPO-ptx mixes in (InstructGPT, section 3.5 and appendix C.4)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hark.errors import DataError, SettingsError
from hark.models.processes import first_before_others
from hark.runs.run import Run
from hark.training.examples import RecordReader
from hark.training.ppo_episodes import PRETRAINING, endless_order
from hark.training.ppo_settings import PPOSettings
from hark.training.token_file import TokenFile, rows_of, write_token_file
from hark.training.trainer import seed_of


@dataclass(frozen=True, kw_only=True)
class PretrainingRows:
    """Rows full of text, in an endless shuffled order that is a function of the seed."""

    tokens: TokenFile
    row_tokens: int
    rows_per_update: int
    seed: int

    def of_update(self, number: int) -> Tensor:
        """The rows mixed into update `number` of the run, counted from 0. [r, row_tokens] long."""
        chosen = endless_order(
            number * self.rows_per_update,
            self.rows_per_update,
            total=sum(rows_of(source, self.row_tokens) for source in self.tokens.sources),
            seed=seed_of(self.seed, PRETRAINING),
        )
        return torch.from_numpy(np.stack([self._row(index) for index in chosen]))

    def _row(self, index: int) -> npt.NDArray[np.int64]:
        """Row `index` of all sources end to end."""
        for source in self.tokens.sources:
            count = rows_of(source, self.row_tokens)
            if index < count:
                return self.tokens.row(source, index, self.row_tokens)
            index -= count
        raise IndexError(index)


def open_pretraining_rows(
    settings: PPOSettings, run: Run, tokenizer: PreTrainedTokenizerBase, *, context: int
) -> PretrainingRows | None:
    """Tokenise `pretraining_data` below the run directory; None for PPO without the mix.

    Raises: DataError for files that are not texts or do not fill a row; SettingsError if a row
    exceeds the context.
    """
    if not settings.pretraining_data:
        return None
    width = settings.pretraining_row_tokens
    if width > context:
        raise SettingsError(
            f"pretraining_row_tokens {width} is beyond the model's context of {context} tokens; "
            "lower it"
        )
    texts = RecordReader.of(settings, run).stream_texts(settings.pretraining_data)
    with first_before_others():
        tokens = write_token_file(run.data_path("pretraining-tokens.bin"), texts, tokenizer)
    if not any(rows_of(source, width) for source in tokens.sources):
        raise DataError(
            f"pretraining_data has no file of {width} tokens, one row; give more text or lower "
            "pretraining_row_tokens"
        )
    return PretrainingRows(
        tokens=tokens,
        row_tokens=width,
        rows_per_update=settings.pretraining_rows_per_update,
        seed=settings.seed,
    )
