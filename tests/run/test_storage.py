import json

import numpy as np
import pytest
import torch

from rmbpo_fast import storage
from rmbpo_fast.errors import StorageError
from rmbpo_fast.run import checkpoint
from rmbpo_fast.run.journal import JournalWriter, read_journal

TREE = {
    "a": {"weights": torch.arange(6.0).reshape(2, 3), "step": 7},
    "names": ["x", "y"],
    "none": None,
    "rng": torch.Generator().get_state(),
    "pi": 3.141592653589793,
}


def _damage(path, how):
    data = path.read_bytes()
    if how == "truncated":
        path.write_bytes(data[:-5])
    elif how == "altered":
        path.write_bytes(data[:-5] + bytes([data[-5] ^ 1]) + data[-4:])
    else:
        path.write_bytes(b"something else\n")


def test_a_tree_comes_back_exactly(tmp_path):
    storage.save_tree(tmp_path / "t", TREE, "kind")
    back = storage.load_tree(tmp_path / "t", "kind")
    assert torch.equal(back["a"].pop("weights"), TREE["a"]["weights"])
    assert torch.equal(back.pop("rng"), TREE["rng"])
    assert back == {"a": {"step": 7}, "names": ["x", "y"], "none": None, "pi": TREE["pi"]}


def test_nothing_is_pickled(tmp_path):
    storage.save_tree(tmp_path / "t", TREE, "kind")
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["state.json", "state.safetensors"]
    json.loads((tmp_path / "t/state.json").read_text())


@pytest.mark.parametrize("how", ["truncated", "altered", "foreign"])
@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_damage_is_noticed(tmp_path, name, how):
    storage.save_tree(tmp_path / "t", TREE, "kind")
    if (name, how) == ("state.json", "altered"):
        text = (tmp_path / "t/state.json").read_text()
        (tmp_path / "t/state.json").write_text(text.replace('"a/step": 7', '"a/step": 8'))
    else:
        _damage(tmp_path / "t" / name, how)
    with pytest.raises(StorageError, match=str(tmp_path / "t")):
        storage.load_tree(tmp_path / "t", "kind")


def test_another_kind_is_refused(tmp_path):
    storage.save_tree(tmp_path / "t", TREE, "kind")
    with pytest.raises(StorageError, match="expected a other, found 'kind'"):
        storage.load_tree(tmp_path / "t", "other")


def test_a_tree_is_never_overwritten_and_a_failed_one_leaves_nothing(tmp_path, monkeypatch):
    storage.save_tree(tmp_path / "t", TREE, "kind")
    with pytest.raises(FileExistsError):
        storage.save_tree(tmp_path / "t", {}, "kind")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "_save_file", full)
    with pytest.raises(OSError, match="No space"):
        storage.save_tree(tmp_path / "u", TREE, "kind")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_optimizer_state_comes_back_exactly():
    def train(steps, state=None):
        torch.manual_seed(0)
        w = torch.nn.Parameter(torch.ones(3))
        other = torch.nn.Parameter(torch.ones(2))  # never has a gradient
        optimizer = torch.optim.Adam([{"params": [other]}, {"params": [w]}], fused=True)
        if state:
            with torch.no_grad():
                w.copy_(state[0])
            storage.load_optimizer_state(optimizer, state[1])
        for _ in range(steps):
            optimizer.zero_grad()
            (w**4).sum().backward()
            optimizer.step()
        return w.detach().clone(), storage.optimizer_state(optimizer)

    assert torch.equal(train(3, train(4))[0], train(7)[0])


def test_old_checkpoints_go_only_after_a_good_one(tmp_path, monkeypatch):
    for step in (10, 20, 30):
        checkpoint.save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, keep=2)
    assert [p.name for p in checkpoint.list_checkpoints(tmp_path)] == [
        "step-000000020",
        "step-000000030",
    ]

    def unreadable(*_):
        raise StorageError("bad disk")

    monkeypatch.setattr(checkpoint, "load_tree", unreadable)
    with pytest.raises(StorageError, match="bad disk"):
        checkpoint.save_checkpoint(tmp_path, 40, {"x": torch.tensor(40)}, keep=2)
    assert len(checkpoint.list_checkpoints(tmp_path)) == 3


def test_a_damaged_checkpoint_is_passed_over_only_when_told(tmp_path):
    for step in (10, 20):
        checkpoint.save_checkpoint(tmp_path, step, {"x": torch.tensor(step)}, keep=2)
    _damage(tmp_path / "checkpoints/step-000000020/state.safetensors", "truncated")
    with pytest.raises(StorageError, match="--resume-fallback"):
        checkpoint.load_newest(tmp_path, accept_older=False)
    folder, tree = checkpoint.load_newest(tmp_path, accept_older=True)
    assert (folder.name, tree["x"].item()) == ("step-000000010", 10)
    # the damaged one stays for whoever wants to look at it, out of the way of pruning and resuming
    checkpoint.set_aside_newer(tmp_path, than=folder)
    again = checkpoint.save_checkpoint(tmp_path, 20, {"x": torch.tensor(21)}, keep=1)
    assert {p.name for p in again.parent.iterdir()} == {
        "step-000000020",
        "damaged0-step-000000020",
    }
    assert checkpoint.load_newest(tmp_path, accept_older=False)[1]["x"].item() == 21
    _damage(again / "state.json", "foreign")
    with pytest.raises(StorageError, match="no checkpoint can be read"):
        checkpoint.load_newest(tmp_path, accept_older=True)


def test_what_a_killed_save_left_behind_is_removed(tmp_path):
    (tmp_path / "checkpoints" / ".step-000000010.abc").mkdir(parents=True)
    folder = checkpoint.save_checkpoint(tmp_path, 20, {"x": torch.tensor(1)}, keep=2)
    assert [p.name for p in folder.parent.iterdir()] == ["step-000000020"]


def _rows(first, count):
    return np.arange(first, first + count, dtype=np.float32)[:, None].repeat(4, axis=1)


def _write(folder, first, count):
    writer = JournalWriter(folder, first, 4)
    for row in _rows(first, count):
        writer.append(row[None], np.zeros(1, np.uint8))
    writer.close()
    return writer.path


def test_journal_segments_join(tmp_path):
    _write(tmp_path, 0, 5)
    _write(tmp_path, 5, 0)
    _write(tmp_path, 5, 3)
    np.testing.assert_array_equal(read_journal(tmp_path, 4), _rows(0, 8))


@pytest.mark.parametrize("how", ["truncated", "altered", "foreign"])
def test_journal_damage_is_noticed_and_passed_over_only_when_told(tmp_path, how):
    path = _write(tmp_path, 0, 5)
    _damage(path, how)
    good = 0 if how == "foreign" else 4
    before = path.read_bytes()
    with pytest.raises(StorageError, match=f"--resume-fallback goes on with {good} steps"):
        read_journal(tmp_path, 4)
    np.testing.assert_array_equal(read_journal(tmp_path, 4, accept_damage=True), _rows(0, good))
    # the run goes on in a new segment; from then on nothing needs to be accepted again
    _write(tmp_path, good, 6)
    np.testing.assert_array_equal(read_journal(tmp_path, 4), _rows(0, good + 6))
    assert path.read_bytes() == before


def test_a_write_that_a_kill_cut_is_no_damage(tmp_path):
    """The count of committed records is written last; what lies behind them never happened."""
    path = _write(tmp_path, 0, 5)
    path.write_bytes(path.read_bytes() + b"half a record")
    np.testing.assert_array_equal(read_journal(tmp_path, 4), _rows(0, 5))
    # killed between a record and its commit: all bytes are there, the transition isn't yet
    path.write_bytes((4).to_bytes(8, "little") + path.read_bytes()[8:])
    np.testing.assert_array_equal(read_journal(tmp_path, 4), _rows(0, 4))


def test_one_process_at_a_time_writes(tmp_path):
    writer = JournalWriter(tmp_path, 0, 4)
    with pytest.raises(StorageError, match="another process is training in this run"):
        JournalWriter(tmp_path, 0, 4)
    writer.close()
    JournalWriter(tmp_path, 0, 4).close()


def test_a_foreign_file_in_the_journal_is_refused(tmp_path):
    (tmp_path / "notes.bin").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"notes\.bin: not a journal"):
        read_journal(tmp_path, 4)


def test_journal_damage_in_the_middle_supersedes_what_came_after(tmp_path):
    path = _write(tmp_path, 0, 5)
    _write(tmp_path, 5, 5)
    data = bytearray(path.read_bytes())
    data[-70] ^= 1  # a record in the middle of the first segment
    path.write_bytes(bytes(data))
    with pytest.raises(StorageError, match="damaged after"):
        read_journal(tmp_path, 4)
    kept = len(read_journal(tmp_path, 4, accept_damage=True))
    assert 0 < kept < 5
    _write(tmp_path, kept, 20)
    np.testing.assert_array_equal(read_journal(tmp_path, 4), _rows(0, kept + 20))


def test_journal_with_a_missing_segment_or_another_width_is_refused(tmp_path):
    _write(tmp_path, 3, 2)
    with pytest.raises(StorageError, match="begins at step 3, expected 0"):
        read_journal(tmp_path, 4)
    _write(tmp_path / "other", 0, 2)
    with pytest.raises(StorageError, match=r"expected .* 9, 0\).*found .* 4, 0\)"):
        read_journal(tmp_path / "other", 9)
