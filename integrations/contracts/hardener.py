"""The contract of a hardener: it leaves the user's network alone, its seed decides, and its certificate says it all."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.harden import Hardened, RobustnessCertificate, known_hardeners
from medward.guard.harden.method import HardeningMethod
from medward.integrations.contracts.subjects import hold_contract

SIDE, FAINT = 8, 0.08
"""The side of images in pixels, and the radius that hides their weak sign and not their strong one."""


def faint_images(count: int, seed: int, classes: int = 2) -> Split:
    """Images with a strong sign that survives small changes and a weak one, easier to learn, that does not.

    A patch at one of `classes` places (noisy), and a faint pattern over the whole image that always tells.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    patterns = np.sign(np.random.default_rng(7).normal(size=(classes, 1, SIDE, SIDE)))
    x = 0.5 + 0.04 * rng.normal(size=(count, 1, SIDE, SIDE)) + 0.03 * patterns[labels]
    for k in range(classes):
        x[labels == k, :, :3, 2 * k : 2 * k + 2] += 0.25 + 0.08 * rng.normal(size=((labels == k).sum(), 1, 1, 1))
    return Split(np.clip(x, 0, 1).astype(np.float32), labels.astype(np.int64))


def faint_network(classes: int = 2) -> nn.Sequential:
    """A small network with all that a hardener could disturb: frozen layers, running statistics, dropout."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * SIDE * SIDE, classes),
    )


def plainly_trained(network: nn.Module, split: Split, steps: int = 80) -> nn.Module:
    """The network after a little ordinary training."""
    x, y = torch.from_numpy(split.inputs), torch.from_numpy(np.asarray(split.labels))
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network.eval()


def check_hardener(hardener: HardeningMethod, victim: nn.Module | None = None) -> None:
    """Hold `hardener`, of the table or installed as a plug-in, to all that hardeners must do; one epoch of each.

    `victim` is a trained `faint_network`. Whether it hardens is for its own tests, and for ``medward validate``.
    Raises `MedwardError` about what does not hold.
    """
    name = hardener.name
    hold_contract(name in known_hardeners(), f"the hardener {name!r} is in no table; install its package first")
    brief = replace(hardener, epsilon=FAINT, training=replace(hardener.training, epochs=1, batch=64, augment=None))
    if victim is None:
        torch.manual_seed(0)
        victim = plainly_trained(faint_network(), faint_images(160, 0))
    made = check_untouched(brief, victim)
    certificate = made.certificate
    again = RobustnessCertificate.model_validate_json(certificate.model_dump_json())
    hold_contract(again == certificate, f"the certificate of {name!r} does not survive JSON")
    hold_contract(certificate.method == name, f"the certificate of {name!r} says it was {certificate.method!r}")
    hold_contract(certificate.original != certificate.hardened, f"{name!r} trained nothing")
    digests = [_hardened(brief, victim, seed).certificate.hardened for seed in (0, 0, 1)]
    hold_contract(digests[0] == digests[1] != digests[2], f"the seed does not decide the weights of {name!r}")


def check_untouched(hardener: HardeningMethod, victim: nn.Module) -> Hardened:
    """The user's network and random numbers are left alone; what was frozen stays as it is."""
    name, user = hardener.name, copy.deepcopy(victim).train()
    layers = list(user)  # type: ignore[call-overload]
    layers[4].eval()
    layers[0].weight.requires_grad_(False)
    state, flags = copy.deepcopy(user.state_dict()), [module.training for module in user.modules()]
    torch.manual_seed(5)
    numbers = torch.random.get_rng_state()
    made = _hardened(hardener, user, 0)
    kept = all(torch.equal(state[key], value) for key, value in user.state_dict().items())
    hold_contract(kept, f"{name!r} changes the weights of the network it was given")
    hold_contract([each.training for each in user.modules()] == flags, f"{name!r} changes the mode of its layers")
    grads = (layers[0].weight.requires_grad, layers[0].bias.requires_grad, layers[0].bias.grad)
    hold_contract(grads == (False, True, None), f"{name!r} changes which of its weights are trained")
    hold_contract(torch.equal(torch.random.get_rng_state(), numbers), f"{name!r} draws from the user's random numbers")
    frozen = list(made.network)  # type: ignore[call-overload]
    hold_contract(torch.equal(frozen[0].weight, layers[0].weight), f"{name!r} trains what the user froze")
    hold_contract(not torch.equal(frozen[5].weight, layers[5].weight), f"{name!r} trained nothing")
    done = not any(each.training for each in made.network.modules())
    hold_contract(
        done and not any(each.requires_grad for each in made.network.parameters()),
        f"{name!r} returns no frozen network",
    )
    return made


def _hardened(hardener: HardeningMethod, network: nn.Module, seed: int) -> Hardened:
    data = faint_images(160, 0), faint_images(80, 1)
    return hardener.harden(network, *data, low=0.0, high=1.0, seed=seed)
