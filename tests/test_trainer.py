"""The loop that trains every network: early stopping, the running mean, checkpoints, stopping."""

import re

import pytest
import torch
from paths import ROOT
from torch import nn

from detector import devices
from detector.checkpoints import Checkpoint
from detector.steps import Cancelled, stoppable
from detector.trainer import Plan, Rows, Trainer, load_trained_tensors, train_rows, trained_tensors, update_average


class Network(nn.Module):
    """A frozen layer, dropout, a trained layer with batch statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.tower = nn.Linear(4, 8).requires_grad_(False)
        self.dropout, self.norm, self.readout = nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1)

    def forward(self, inputs):
        return self.readout(self.norm(self.dropout(self.tower(inputs))))[:, 0]


class Planned(Trainer[Network, torch.Tensor]):
    """Validation values are given beforehand."""

    def __init__(self, plan, values=(), checkpoint=None):
        network = Network()
        super().__init__(network, [torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.1)], plan, checkpoint)
        self.values, self.after, self.kinds = values, [], set()

    def batches(self, epoch):
        return torch.randn(3, 6, 4, generator=torch.Generator().manual_seed(epoch)).unbind()

    def loss(self, batch):
        output = self.module(batch)
        self.kinds.add(output.dtype)
        return {"loss": (output - 1).square().mean(), "other": output.mean()}

    def validate(self):
        return self.values[self.state.epoch] if self.values else None

    def after_epoch(self, better):
        self.after.append((better, self.module.readout.weight.detach().clone()))


def same(first, second):
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("lower", [False, True])
def test_training_stops_after_its_patience_and_keeps_the_best_epoch(lower):
    values = [-v if lower else v for v in (0.5, 0.7, 0.7, 0.6, 0.9)]  # an equal value is no better one
    trainer = Planned(Plan(10, patience=2, measure="auroc", lower_is_better=lower), values)
    result = trainer.run()
    assert trainer.state.epoch == 4 and [better for better, _ in trainer.after] == [True, True, False, False]
    assert torch.equal(result.readout.weight, trainer.after[1][1]) and not torch.equal(result.readout.weight, trainer.after[3][1])
    assert [line["auroc"] for line in trainer.state.log] == values[:4] and set(trainer.state.log[0]) == {"epoch", "auroc", "loss", "other"}


def test_without_validation_the_last_epoch_is_the_result():
    trainer = Planned(Plan(3))
    assert torch.equal(trainer.run().readout.weight, trainer.after[-1][1]) and len(trainer.after) == 3


def test_the_running_mean_by_hand():
    average, module = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    module.weight.data.fill_(3.0), module.bias.requires_grad_(False).fill_(5.0), module.running_mean.fill_(7.0)
    update_average(average, module, 0.75)
    assert average.weight.item() == 0.75 * 1 + 0.25 * 3 and average.bias.item() == 0 and average.running_mean.item() == 7


def test_frozen_parameters_are_shared_and_never_written(tmp_path):
    trainer = Planned(Plan(1, average=0.9), [0.5], Checkpoint(tmp_path / "one.pt"))
    result = trainer.run()
    assert result is trainer.average and result.tower.weight is trainer.module.tower.weight
    saved = torch.load(tmp_path / "one.pt", weights_only=True)
    for tensors in (saved["module"], saved["average"], saved["state"]["weights"]):
        assert tensors.keys() == trained_tensors(trainer.module).keys() and not any(name.startswith("tower") for name in tensors)
    with pytest.raises(RuntimeError, match="not the trained tensors"):
        load_trained_tensors(trainer.module, saved["module"] | {"other": torch.zeros(1)})
    with pytest.raises(RuntimeError, match="not the trained tensors"):
        load_trained_tensors(trainer.module, {name: value for name, value in saved["module"].items() if name != "readout.bias"})


@pytest.mark.parametrize("end", [1, 3])
def test_a_training_that_continues_gives_the_weights_of_an_undisturbed_one(tmp_path, end, monkeypatch):
    plan, values, path = Plan(5, patience=3, average=0.8, clip=0.5), [0.9, 0.5, 0.6, 0.7, 0.8], tmp_path / "cut.pt"
    whole = Planned(plan, values)
    whole.run()

    def save(self, contents, written=Checkpoint.save):
        written(self, contents)
        if contents["state"]["epoch"] == end:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoint, "save", save)
        Planned(plan, values, Checkpoint(path)).run()
    torch.manual_seed(123)  # another process has another random state, which decides what dropout leaves out
    again = Planned(plan, values, Checkpoint(path, resume=True))
    again.run()
    same(whole.module.state_dict(), again.module.state_dict())
    same(whole.average.state_dict(), again.average.state_dict())
    assert whole.state.log == again.state.log and len(again.after) == len(whole.after) - end


def test_another_training_s_checkpoint_is_refused_or_left_alone(tmp_path):
    path = tmp_path / "one.pt"
    Planned(Plan(1), checkpoint=Checkpoint(path, "first")).run()
    with pytest.raises(ValueError, match="other settings"):
        Planned(Plan(2), checkpoint=Checkpoint(path, "second", resume=True)).run()
    for checkpoint in (Checkpoint(path, "second", resume=True, restart=True), Checkpoint(path, "second")):
        trainer = Planned(Plan(2), checkpoint=checkpoint)
        trainer.run()
        assert len(trainer.after) == 2


def test_an_interrupted_write_leaves_the_checkpoint_as_it_was(tmp_path, monkeypatch):
    checkpoint = Checkpoint(tmp_path / "one.pt", resume=True)
    checkpoint.save({"epoch": 1})

    def interrupted(contents, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", interrupted)
    with pytest.raises(OSError):
        checkpoint.save({"epoch": 2})
    assert checkpoint.load()["epoch"] == 1


def test_a_training_nobody_waits_for_stops_at_its_next_step():
    trainer, asked = Planned(Plan(10)), []

    def wanted():
        asked.append(1)
        return len(asked) < 5

    with pytest.raises(Cancelled), stoppable(wanted):
        trainer.run()
    assert trainer.state.epoch == 1 and len(asked) == 5  # three steps of the first epoch, one of the second


@pytest.mark.parametrize("mixed, kind", [(False, torch.float32), (True, torch.bfloat16)])
def test_reduced_precision_only_where_the_plan_asks_for_it(monkeypatch, mixed, kind):
    monkeypatch.setattr(devices, "has_bfloat16", lambda device: True)
    trainer = Planned(Plan(1, mixed_precision=mixed))
    trainer.run()
    assert trainer.kinds == {kind}


def test_rows_are_shuffled_anew_and_each_seen_once():
    network, order = nn.Linear(1, 1), []
    optimiser = torch.optim.SGD(network.parameters(), lr=0.0)
    rows = Rows(10, 4, torch.device("cpu"), torch.Generator().manual_seed(0))

    def loss(batch):
        order.append(batch.tolist())
        return network(batch[:, None].float()).mean()

    trained = train_rows(network, optimiser, Plan(2), rows, loss, lambda: 0.0)
    first, second = (sum(order[i : i + 3], []) for i in (0, 3))
    assert [len(batch) for batch in order[:3]] == [4, 4, 2] and sorted(first) == sorted(second) == list(range(10)) and first != second
    assert trained is network and not trained.training


def test_no_other_module_has_a_loop_of_its_own():
    loops = {str(path.relative_to(ROOT)) for path in (ROOT / "detector").rglob("*.py") if re.search(r"\.backward\(", path.read_text())}
    assert loops <= {"detector/trainer.py", "detector/methods/residual/head.py"}
