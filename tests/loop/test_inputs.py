"""What the words of a stage's settings stand for on the disk."""

from __future__ import annotations

import json
from pathlib import Path

from hark.loop.evaluating import is_preference_model
from hark.loop.inputs import data_files, model_files


def test_an_adapter_depends_on_its_base(tmp_path: Path) -> None:
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    for directory in (base, adapter):
        directory.mkdir()
    config = {"base_model_name_or_path": str(base), "task_type": "SEQ_CLS"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert model_files(str(adapter)) == [adapter, base]
    assert model_files(str(base)) == [base]
    assert is_preference_model(adapter)
    config = {"base_model_name_or_path": "somebody/something", "task_type": "CAUSAL_LM"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert model_files(str(adapter)) == [adapter]
    assert not is_preference_model(adapter)


def test_a_data_directory_with_a_manifest_of_its_own_is_data(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    (tmp_path / "train.jsonl").write_text("{}\n")
    assert tmp_path / "train.jsonl" in data_files(str(tmp_path))
