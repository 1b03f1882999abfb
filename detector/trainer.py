"""The loop that trains every network of this project.

A method derives a class from `Trainer` and says what a batch is and what its loss is; where it needs to, also how an epoch is
validated, how rates change, and what a checkpoint holds besides the weights. `train_rows` is that class for networks on features
that fit in memory.
"""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detector import steps
from detector.checkpoints import Checkpoint
from detector.devices import training_autocast
from detector.progress import progress

Batch = TypeVar("Batch")
Module = TypeVar("Module", bound=nn.Module)
Losses = Mapping[str, Tensor]  # "loss" is minimised; the other terms are logged


class Stateful(Protocol):
    """What a checkpoint can hold: an optimiser, a schedule of rates."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Plan:
    """How long a network is trained, and how."""

    epochs: int
    patience: int | None = None  # epochs without a better validation value, after which training stops; None: it never does
    measure: str = "validation"  # name of the validation value in the log
    lower_is_better: bool = False  # of the validation value
    average: float | None = None  # share that the running mean of the weights keeps in each step; None: there is no mean
    clip: float | None = None  # largest norm of the gradient of all trained parameters together
    mixed_precision: bool = False  # bfloat16 in the forward pass, on devices that multiply it themselves
    title: str = ""  # of the progress bar and of the line after each epoch; "": neither


@dataclass
class State:
    """How far a training is. epoch: number of whole epochs. best: the best validation value. waited: epochs since then.

    weights: trained tensors of that epoch. log: a line for each epoch. seconds: time in batches, over all interruptions.
    """

    epoch: int = 0
    best: float | None = None
    waited: int = 0
    weights: dict[str, Tensor] | None = None
    log: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0


class Trainer(Generic[Module, Batch]):
    """Trains a module until its plan ends or validation no longer improves.

    After each epoch everything is written to the checkpoint, torch's random state of the CPU included, so that a training that
    continues from it gives the weights of one that was never interrupted. Frozen parameters are neither averaged nor written.
    """

    def __init__(self, module: Module, optimisers: Sequence[Optimizer], plan: Plan, checkpoint: Checkpoint | None = None):
        self.module, self.optimisers, self.plan, self.checkpoint = module, optimisers, plan, checkpoint
        self.average = copy_trained(module) if plan.average is not None else None
        self.state = State()

    # What a method says of its training.

    def batches(self, epoch: int) -> Iterable[Batch]:
        """The batches of an epoch, which counts from 0; the same for the same epoch."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Losses:
        """ "loss" and its terms, scalars."""
        raise NotImplementedError

    def validate(self) -> float | None:
        """The value that chooses the epoch, of `self.result`; None where the last epoch is the result."""
        return None

    def before_epoch(self, epoch: int) -> None:
        """Called before the batches of an epoch."""

    def before_step(self, epoch: int, step: int) -> None:
        """Called before each step; both numbers count from 0."""

    def after_step(self) -> None:
        """Called after the optimisers' step."""

    def after_epoch(self, better: bool) -> None:
        """Called after the checkpoint of an epoch has been written. better: than all epochs before it."""

    def clipped(self) -> list[nn.Parameter]:
        """The parameters whose gradients `plan.clip` limits; their order decides the last digit of the norm."""
        return [parameter for parameter in self.module.parameters() if parameter.requires_grad]

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint holds besides the weights: the optimisers, and in derived classes a schedule of rates."""
        return {f"optimiser{i}": optimiser for i, optimiser in enumerate(self.optimisers)}

    # The loop.

    @property
    def result(self) -> Module:
        """What is validated: the running mean where there is one, else the module."""
        return self.module if self.average is None else self.average

    @property
    def done(self) -> bool:
        """Whether no epoch is left."""
        patience, state = self.plan.patience, self.state
        return state.epoch >= self.plan.epochs or (patience is not None and state.waited >= patience)

    def run(self) -> Module:
        """Train, from the checkpoint on where there is one. Returns `result` with the weights of its best epoch."""
        self.restore()
        while not self.done:
            self.run_epoch()
        if self.state.weights is not None:
            load_trained_tensors(self.result, self.state.weights)
        return self.result

    def restore(self) -> None:
        """Continue from the checkpoint. ValueError if it was made with other settings."""
        saved = self.checkpoint.load() if self.checkpoint else None
        if saved is None:
            return
        load_trained_tensors(self.module, saved["module"])
        if self.average is not None:
            load_trained_tensors(self.average, saved["average"])
        for name, part in self.parts().items():
            part.load_state_dict(saved["parts"][name])
        self.state = State(**saved["state"])
        torch.set_rng_state(saved["random"])

    def save(self) -> None:
        """Write the checkpoint, if the training has one."""
        if self.checkpoint:
            contents = {"module": trained_tensors(self.module), "parts": {name: part.state_dict() for name, part in self.parts().items()}}
            if self.average is not None:
                contents["average"] = trained_tensors(self.average)
            self.checkpoint.save(contents | {"state": vars(self.state), "random": torch.get_rng_state()})

    def run_epoch(self) -> None:
        """Train on the batches of the next epoch, validate, write the checkpoint."""
        started = time.monotonic()
        losses = self._train_epoch(self.state.epoch)
        self.state.seconds += time.monotonic() - started
        better = self._note(losses)
        self.save()
        self.after_epoch(better)

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """Mean losses of an epoch."""
        history = []  # read at the end: each reading would wait for the device
        self.module.train()
        self.before_epoch(epoch)
        title = f"{self.plan.title}, epoch {epoch + 1}"
        batches = progress(self.batches(epoch), title=title) if self.plan.title else self.batches(epoch)
        for step, batch in enumerate(batches):
            steps.checkpoint()
            self.before_step(epoch, step)
            history.append({name: value.detach() for name, value in self._step(batch).items()})
        return {name: round(sum(float(losses[name]) for losses in history) / len(history), 4) for name in history[0]}

    def _step(self, batch: Batch) -> Losses:
        device = next(self.module.parameters()).device
        with training_autocast(device) if self.plan.mixed_precision else nullcontext():
            losses = self.loss(batch)
        self.module.zero_grad(set_to_none=True)
        losses["loss"].backward()
        if self.plan.clip is not None:
            nn.utils.clip_grad_norm_(self.clipped(), self.plan.clip)
        for optimiser in self.optimisers:
            optimiser.step()
        self.after_step()
        if self.average is not None and self.plan.average is not None:
            update_average(self.average, self.module, self.plan.average)
        return losses

    def _note(self, losses: dict[str, float]) -> bool:
        """Enter an epoch into the progress, with its weights if it is the best so far. Returns whether it is."""
        state, value = self.state, self.validate()
        state.epoch += 1
        line = {"epoch": state.epoch} | ({} if value is None else {self.plan.measure: round(value, 4)}) | losses
        state.log = [*state.log, line]
        if self.plan.title:
            words = ", ".join(f"{name} {number}" for name, number in line.items() if name != "epoch")
            print(f"{self.plan.title} {state.epoch}/{self.plan.epochs}: {words}, {state.seconds:.0f} s", file=sys.stderr, flush=True)
        if value is None:
            return True
        better = state.best is None or (value < state.best if self.plan.lower_is_better else value > state.best)
        state.waited = 0 if better else state.waited + 1
        if better:
            state.best, state.weights = value, {name: tensor.clone() for name, tensor in trained_tensors(self.result).items()}
        return better


# --- weights ---------------------------------------------------------------------------------------------------------


def frozen_names(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's state without its frozen parameters."""
    frozen = frozen_names(module)
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def load_trained_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of `trained_tensors` back. RuntimeError if names or shapes differ."""
    missing, surplus = module.load_state_dict(tensors, strict=False)
    if surplus or set(missing) - frozen_names(module):
        raise RuntimeError("These are not the trained tensors of this module.")


def copy_trained(module: Module) -> Module:
    """A copy in evaluation mode that shares the frozen parameters."""
    frozen = {id(parameter): parameter for parameter in module.parameters() if not parameter.requires_grad}
    return copy.deepcopy(module, frozen).eval()


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, share: float) -> None:
    """average ← share · average + (1 − share) · module for trained parameters; buffers are copied.

    torch's `AveragedModel` copies the frozen parameters, too, and its first step replaces the weights that the average starts with.
    """
    for mean, current in zip(average.parameters(), module.parameters(), strict=True):
        if current.requires_grad:
            mean.lerp_(current, 1 - share)
    for copied, buffer in zip(average.buffers(), module.buffers(), strict=True):
        copied.copy_(buffer)


# --- networks on features in memory ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """N rows in memory, in shuffled batches. device: where their features lie. generator: of the order; None: torch's own.

    weights: (N,) 0 or above, on the CPU: how often a row is drawn. None: each is drawn once an epoch, as it is where all weigh the same.
    """

    count: int
    batch: int
    device: torch.device
    generator: torch.Generator | None = None
    weights: Tensor | None = None

    def batches(self) -> Iterator[Tensor]:
        """Batches of row numbers in a new order; with unequal weights as many draws with replacement."""
        if self.weights is None or bool((self.weights == self.weights[0]).all()):
            order = torch.randperm(self.count, generator=self.generator)
        else:
            order = torch.multinomial(self.weights, self.count, replacement=True, generator=self.generator)
        yield from order.to(self.device).split(self.batch)


class _RowTrainer(Trainer[Module, Tensor]):
    rows: Rows
    loss_of: Callable[[Tensor], Tensor]
    value: Callable[[], float]

    def batches(self, epoch: int) -> Iterator[Tensor]:
        return self.rows.batches()

    def loss(self, batch: Tensor) -> Losses:
        return {"loss": self.loss_of(batch)}

    def validate(self) -> float:
        self.module.eval()
        with torch.no_grad():
            return self.value()


def train_rows(
    module: Module, optimiser: Optimizer, plan: Plan, rows: Rows, loss: Callable[[Tensor], Tensor], validate: Callable[[], float]
) -> Module:
    """Train a network on features in memory. Returns it with the weights of its best epoch, in evaluation mode.

    loss: row numbers (B,) → scalar. validate: the validation value of the module as it is, which is in evaluation mode.
    """
    trainer: _RowTrainer[Module] = _RowTrainer(module, [optimiser], plan)
    trainer.rows, trainer.loss_of, trainer.value = rows, loss, validate
    return trainer.run().eval()
