"""The stage `tournament`: every policy against every other, by several judges on the same replies.

The comparisons behind figure 1 of Bai et al. (2204.05862) and its study of writers: each
two policies' replies to a prompt are judged, Elo is fitted to the verdicts, and beside it stands
the Elo that a preference model's scores predict.

1. All judges see the same replies in the same order, which a hash of pair and prompt decides; so
   judges differ by judgement alone.
2. A preference model judges like anybody: the higher score wins. What it predicts in proportion is
   in `hark.evaluation.score_elo`.
3. Votes on one prompt are about the same replies, so intervals are clustered by prompt as well.
4. The paper's writers and workers are people. Here they are whoever is named: demonstrations in a
   file, the playground's simulated labelers, or votes that people gave in the application.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from hark.data.formats import read_demonstrations, read_prompts, write_comparisons
from hark.data.records import Comparison, Dialogue, answered
from hark.data.rows import write_rows
from hark.errors import DataError, did_you_mean
from hark.evaluation.elo import Clusters
from hark.evaluation.intervals import Estimate
from hark.evaluation.samples import samples_of, write_samples
from hark.evaluation.score_elo import ScoreElo, over_estimate, score_elo
from hark.evaluation.scores import score
from hark.evaluation.winrate import policy_comes_first
from hark.loop.inputs import data_files, model_files, read_examples, read_files
from hark.loop.judges import Labeler, Scorer, labeler, labeler_from_scorer, remembering, scorer
from hark.loop.labelling import AT_ONCE
from hark.loop.rating import VoteSettings, judged
from hark.loop.speaker import SpeakerSettings, load_speaker, sampling_seed
from hark.loop.votes import read_votes, vote_files, votes_of_comparisons
from hark.models.generation import SamplingSettings
from hark.models.processes import is_first
from hark.playground.labelers import LabelerSettings
from hark.runs.progress import progress
from hark.runs.run import Run
from hark.runs.settings import DataStageSettings
from hark.training.examples import Paths

CROWD = "playground"
"""The labeler that is a population (`hark.loop.judges.labeler`)."""


class TournamentSettings(DataStageSettings, VoteSettings):
    """Compare every policy with every other: Elo by several judges on the same replies."""

    policies: dict[str, SpeakerSettings]
    """Name of each policy to its model and how it is asked."""
    writers: dict[str, Paths] = Field(default_factory=dict)
    """Name of each writer to files of demonstrations: replies to the same prompts, such as
    people's. Prompts that a writer has not answered are left out."""
    data: Paths
    """Files of prompts."""
    limit: int | None = Field(default=None, ge=1)
    """Take only so many prompts."""
    judges: dict[str, str] = Field(default={"crowd": CROWD, "gold": "gold"})
    """Name of each judge to who it is: playground (a noisy population), gold (its gold grade),
    module:function of a labeler of yours, or any scorer (the higher score wins)."""
    votes: dict[str, Paths] = Field(default_factory=dict)
    """Name of each judge whose votes are in files, such as exports of the application."""
    preference_models: dict[str, str] = Field(default_factory=dict)
    """Name of each preference model to its run: it judges, and its scores predict Elo. Best-of-N
    goes by the first."""
    population: LabelerSettings = LabelerSettings()
    """The playground's labelers: how many, how noisy, how biased."""
    clusters: Clusters = "labeler and prompt"
    """Votes that are taken together in intervals: those of a labeler, or of a labeler and also
    those on a prompt."""
    rows: int = Field(default=64, ge=1)
    """Replies written at once; the samples do not depend on it."""
    sampling: SamplingSettings = SamplingSettings()
    """How tokens are drawn, for every policy."""

    @property
    def players(self) -> list[str]:
        """Policies, then writers."""
        return [*self.policies, *self.writers]

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        if len(set(self.players)) < len(self.players):
            raise ValueError("a policy and a writer have the same name")
        if len(self.players) < 2:
            raise ValueError("a tournament needs two or more policies and writers")
        judges = [*self.judges, *self.preference_models, *self.votes]
        if len(set(judges)) < len(judges):
            raise ValueError("two judges have the same name")
        if not judges:
            raise ValueError("no judge is named")
        if odd := [name for name in judges if not re.fullmatch(r"[\w.-]+", name)]:
            raise ValueError(f"judge '{odd[0]}' names a file: use letters, digits, '-', '.', '_'")
        named = {"anchor": self.anchor}
        if self.primary is not None:
            named |= {"primary.model": self.primary.model, "primary.against": self.primary.against}
        for setting, name in named.items():
            if name is not None and name not in self.players:
                hint = did_you_mean(name, self.players)
                raise ValueError(f"{setting} '{name}' is no policy or writer{hint}")
        best = [name for name, policy in self.policies.items() if policy.best_of > 1]
        if best and not self.preference_models:
            raise ValueError(f"policy '{best[0]}' is a best-of-N, which needs a preference model")
        if "population" in self.model_fields_set and CROWD not in self.judges.values():
            raise ValueError("population would be ignored: no judge is 'playground'")
        return self


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replies:
    """What every player said to every prompt."""

    prompts: list[Dialogue]
    texts: dict[str, list[str]]
    """Player → its reply to each prompt."""
    finishes: dict[str, list[str]]
    """Policy → how each reply ended; writers have none."""

    def dialogues(self, player: str) -> list[Dialogue]:
        """Each prompt with the player's reply."""
        return [answered(*pair) for pair in zip(self.prompts, self.texts[player], strict=True)]


def tournament_inputs(settings: TournamentSettings) -> list[Path]:
    """Files and directories whose contents decide the result."""
    policies = settings.policies.values()
    models = [
        *(policy.model for policy in policies),
        *settings.judges.values(),
        *settings.preference_models.values(),
    ]
    written = [path for paths in settings.writers.values() for path in paths]
    examples = [path for policy in policies for path in policy.examples]
    found = [path for name in models for path in model_files(name)]
    found += [file for path in (*settings.data, *written, *examples) for file in _files(path)]
    found += [file for paths in settings.votes.values() for file in vote_files(paths)]
    return list(dict.fromkeys(found))


def run_tournament(settings: TournamentSettings, run: Run) -> dict[str, Any]:
    """Let all reply and all judge.

    Writes `data/samples.jsonl` (replies and scores), `data/votes-<judge>.jsonl` (which `hark rate`
    reads), and `data/items.jsonl` (the same comparisons for a study of the application, where
    people vote on them).
    """
    models = {
        name: remembering(scorer(word, device=settings.device, dtype=settings.dtype))
        for name, word in settings.preference_models.items()
    }
    replies = _replies(settings, models, run)
    scores = {name: _scores(model, replies) for name, model in models.items()}
    pairs = list(_pairs(replies, settings))
    judges = [
        _judge(name, each, pairs, settings, run) for name, each in _judges(settings, models).items()
    ]
    judges += [_from_files(name, paths, settings, run) for name, paths in settings.votes.items()]
    predictions = {name: _predictions(own, replies, settings) for name, own in scores.items()}
    if is_first():
        _write(settings, replies, scores, pairs, run)
    return {
        "prompts": len(replies.prompts),
        "judges": judges,
        "predictions": [
            {"preference_model": name, "ratings": [one.to_json() for one in predicted]}
            for name, predicted in predictions.items()
        ],
        "over_estimates": {
            name: dict(_over_estimates(own, judges)) for name, own in predictions.items()
        },
    }


def _replies(settings: TournamentSettings, models: Mapping[str, Scorer], run: Run) -> Replies:
    prompts = [each.prompt for each in read_files(read_prompts, settings.data, settings, run)]
    prompts = list(dict.fromkeys(prompts))
    texts: dict[str, list[str]] = {}
    written = {name: _written(paths, settings, run) for name, paths in settings.writers.items()}
    prompts = [each for each in prompts if all(each in own for own in written.values())]
    prompts = prompts[: settings.limit]
    if not prompts:
        who = ", ".join(settings.writers)
        raise DataError(f"no prompt in {', '.join(map(str, settings.data))} is answered by {who}")
    finishes: dict[str, list[str]] = {}
    for name, policy in settings.policies.items():
        speaker = load_speaker(
            policy, sampling=settings.sampling,
            examples=read_examples(policy.examples, settings, run),
            score=next(iter(models.values()), None) if policy.best_of > 1 else None,
            rows=settings.rows, device=settings.device, dtype=settings.dtype,
        )  # fmt: skip
        replies = speaker.reply(prompts, seed=sampling_seed(settings.seed, name), label=name)
        texts[name] = [reply.text for reply in replies]
        finishes[name] = [reply.finish for reply in replies]
    texts |= {name: [own[prompt] for prompt in prompts] for name, own in written.items()}
    return Replies(prompts=prompts, texts=texts, finishes=finishes)


def _written(paths: Sequence[Path], settings: TournamentSettings, run: Run) -> dict[Dialogue, str]:
    """The writer's reply to each prompt; of several the first."""
    found: dict[Dialogue, str] = {}
    for each in read_files(read_demonstrations, paths, settings, run):
        found.setdefault(each.prompt, each.response)
    return found


def _pairs(replies: Replies, settings: TournamentSettings) -> Iterator[Comparison]:
    """Each two players' replies to each prompt, in the order in which all judges see them."""
    for number, (one, other) in enumerate(itertools.combinations(settings.players, 2)):
        for place, prompt in enumerate(replies.prompts):
            as_named = policy_comes_first(prompt, seed=settings.seed + 7919 * number)
            shown = (one, other) if as_named else (other, one)
            yield Comparison(
                prompt=prompt,
                responses=tuple(replies.texts[name][place] for name in shown),
                models=shown,
            )


def _judges(settings: TournamentSettings, models: Mapping[str, Scorer]) -> dict[str, Labeler]:
    drawn = settings.population.model_copy(
        update={"seed": settings.population.seed + settings.seed}
    )
    found = {
        name: labeler(word, population=drawn, device=settings.device)
        for name, word in settings.judges.items()
    }
    return found | {name: labeler_from_scorer(each, name) for name, each in models.items()}


def _judge(
    name: str,
    judge: Labeler,
    pairs: Sequence[Comparison],
    settings: TournamentSettings,
    run: Run,
) -> dict[str, Any]:
    verdicts: list[Comparison] = []
    with progress(total=len(pairs), label=name, unit="comparison") as bar:
        for start in range(0, len(pairs), AT_ONCE):
            verdicts += judge(pairs[start : start + AT_ONCE])
            bar.advance(min(AT_ONCE, len(pairs) - start))
    if is_first():
        write_comparisons(run.data_path(f"votes-{name}.jsonl"), verdicts)
    return judged(name, votes_of_comparisons(verdicts).votes, settings, seed=settings.seed)


def _from_files(
    name: str, paths: Sequence[Path], settings: TournamentSettings, run: Run
) -> dict[str, Any]:
    """Whoever votes in files need not have seen all; the anchor is theirs if they have."""
    votes = read_votes(paths, settings, run).votes
    seen = {model for vote in votes for model in (vote.first, vote.second)}
    if settings.anchor not in seen:
        settings = settings.model_copy(update={"anchor": None})
    return judged(name, votes, settings, seed=settings.seed)


def _scores(model: Scorer, replies: Replies) -> dict[str, list[float]]:
    # In one call, and the replies to a prompt side by side, so that a model reads it once.
    columns = [replies.dialogues(name) for name in replies.texts]
    flat = score(model, [each for row in zip(*columns, strict=True) for each in row])
    width = len(columns)
    return {name: flat[place::width].tolist() for place, name in enumerate(replies.texts)}


def _predictions(
    scores: Mapping[str, Sequence[float]], replies: Replies, settings: TournamentSettings
) -> list[ScoreElo]:
    anchor = settings.anchor or min(replies.texts)
    return score_elo(
        scores, replies.prompts, anchor=anchor, level=settings.level, seed=settings.seed
    )


def _over_estimates(
    predicted: Sequence[ScoreElo], judges: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each judge with the predicted less the measured Elo of each model; of the same anchor."""
    anchor = next(one.model for one in predicted if one.score.state == "exact")
    for judge in judges:
        measured = {one["model"]: Estimate.from_json(one["elo"]) for one in judge["ratings"]}
        if judge["anchor"] == anchor:
            yield (
                judge["judge"],
                {
                    one.model: {
                        "from_gap": over_estimate(one.from_gap, measured[one.model]).to_json(),
                        "from_odds": over_estimate(one.from_odds, measured[one.model]).to_json(),
                    }
                    for one in predicted
                    if one.model != anchor and one.model in measured
                },
            )


def _write(
    settings: TournamentSettings,
    replies: Replies,
    scores: Mapping[str, Mapping[str, Sequence[float]]],
    pairs: Sequence[Comparison],
    run: Run,
) -> None:
    samples = [
        sample
        for name, texts in replies.texts.items()
        for sample in samples_of(
            name,
            replies.prompts,
            texts,
            {model: own[name] for model, own in scores.items()},
            replies.finishes.get(name),
        )
    ]
    write_samples(run.data_path("samples.jsonl"), samples)
    asked = settings.primary
    wanted = None if asked is None else {asked.model, asked.against}
    items = [_item(each) for each in pairs if wanted is None or set(each.models or ()) == wanted]
    write_rows(run.data_path("items.jsonl"), items)


def _item(pair: Comparison) -> dict[str, Any]:
    """An item of kind `vote`, as `hark feedback create --items` reads it."""
    prompt = [{"role": turn.role, "content": turn.content} for turn in pair.prompt]
    candidates = [
        {"text": text, "snapshot": model}
        for text, model in zip(pair.responses, pair.models or (), strict=True)
    ]
    return {"task": {"kind": "vote", "prompt": prompt}, "candidates": candidates}


def _files(path: Path) -> list[Path]:
    return data_files(str(path))
