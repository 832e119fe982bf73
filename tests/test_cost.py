"""Analytic FLOPs against torch's own counter, for every objective and ViT size."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import params, tiny
from timm.layers.attention import Attention
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ijepa import config as configs
from ijepa import variants
from ijepa.config import Config, grid
from ijepa.masks import Keys, Masks
from ijepa.model import flops
from ijepa.training import batches, loop

META = torch.device("meta")
# patch, width, depth, heads, mlp_ratio; the last two as in the paper and the presets
SIZES = {
    "two blocks": (16, 192, 2, 3, 4.0),
    "Ti/16": (16, 192, 12, 3, 4.0),
    "S/16": (16, 384, 12, 6, 4.0),
    "B/16": (16, 768, 12, 12, 4.0),
    "L/16": (16, 1024, 24, 16, 4.0),
    "H/14": (14, 1280, 32, 16, 4.0),
    "g/16": (16, 1408, 40, 16, 48 / 11),
}

# heads and decoders as the rivals' papers have them, beside which an encoder is not all
PARTS = {
    "decoder_width": 512, "decoder_depth": 8, "decoder_heads": 16,
    "local_crops": 10, "head_hidden": 2048, "head_bottleneck": 256, "prototypes": 8192,
}  # fmt: skip


def paper(size: str, **change: Any) -> Config:
    """A ViT of the paper at 224 pixels, otherwise params.yaml's options."""
    patch, width, depth, heads, ratio = SIZES[size]
    model = {"patch_size": patch, "width": width, "depth": depth, "heads": heads,
             "mlp_ratio": ratio, "predictor_width": 384, "predictor_heads": heads,
             "predictor_depth": 6 if depth < 24 else 12}  # fmt: skip
    dotted = {f"model.{name}": value for name, value in model.items()}
    dotted |= {f"objective.{name}": value for name, value in PARTS.items()}
    dotted |= {"objective.local_size": 6 * patch, "objective.top_layers": min(6, depth)}
    dotted["evaluate.last_layers"] = 1
    tree = params(**{"data.image_size": 224, **dotted, **change})
    return configs.parse(tree, "params.yaml")


def batch(config: Config, count: int, device: torch.device) -> list[Any]:
    """What an objective is given: its views, and real masks of its masked views."""
    declared = batches.views(config)
    keys = Keys(0, 0, np.zeros(count, np.int64), np.arange(count))
    sample = variants.load("masks", config.mask.name).sample
    masks: Masks = sample(keys, grid(config), config.mask.options)
    made: list[Any] = [torch.zeros(count, 3, v.size, v.size, device=device) for v in declared]
    return made + [masks.to(device) for view in declared if view.masked]


def objective_of(config: Config, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An objective with explicit attention and without numbers: nothing is computed."""
    for name in ("trunc_normal_", "xavier_uniform_", "uniform_", "normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind: False)  # knows no meta device
    with META:
        made = loop.create_objective(config, META)
    for part in made.modules():
        if isinstance(part, Attention):
            part.fused_attn = False  # type: ignore[misc]
    return made


def counted(objective: Any, given: list[Any]) -> int:
    """Torch's count of a loss and its gradient."""
    with FlopCounterMode(display=False) as counter:
        objective(*given).backward()
    return counter.get_total_flops()


CHANGES = [{"objective.name": name} for name in variants.names("objectives")]
CHANGES += [
    {"objective.name": "ijepa", "objective.target_masking": "input"},
    {"objective.name": "mae", "mask.name": "random"},
    {"objective.name": "ibot", "mask.name": "blockwise"},
    {"objective.name": "ibot", "objective.local_crops": 0},
]
EVERY = pytest.mark.parametrize(
    "change", CHANGES, ids=lambda change: "-".join(map(str, change.values()))
)
# the counter takes seconds for a deep network: make test-slow has all sizes
DEEPER = [pytest.param(s, marks=pytest.mark.slow if s != "two blocks" else ()) for s in SIZES]


@EVERY
@pytest.mark.parametrize("size", DEEPER)
def test_flops_are_what_the_counter_counts(
    size: str, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 224 pixels with real masks, forward and backward."""
    config = paper(size, **change)
    objective, given = objective_of(config, monkeypatch), batch(config, 2, META)
    analytic, found = objective.flops(*given), counted(objective, given)
    assert type(analytic) is int
    # equal today; what a new torch counts otherwise may be a little, but not a layer
    assert analytic == pytest.approx(found, rel=0.001)
    deeper = paper(size, **change, **{"model.depth": 2 * SIZES[size][2]})
    more = objective_of(deeper, monkeypatch).flops(*batch(deeper, 2, META))
    assert more > 1.005 * found, "a wrong depth would be noticed"


@EVERY
def test_flops_are_a_sum_over_images(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So neither micro-batches nor the number of processes change a run's count."""
    config = tiny(**change)
    objective, given = objective_of(config, monkeypatch), batch(config, 5, META)

    def part(start: int, stop: int) -> list[Any]:
        return [x.rows(start, stop) if isinstance(x, Masks) else x[start:stop] for x in given]

    whole = objective.flops(*given)
    assert whole == objective.flops(*part(0, 2)) + objective.flops(*part(2, 5))
    assert whole == 5 * objective.flops(*part(0, 1)) > 0


USEFUL = [{"objective.name": name} for name in ("ijepa", "pixels", "mae", "data2vec")]
USEFUL += [
    {"objective.name": "ijepa", "objective.target_masking": "input"},
    {"objective.name": "ibot", "mask.name": "blockwise", "mask.target_scale": [0.1, 0.6]},
]


@pytest.mark.parametrize("change", USEFUL, ids=lambda change: "-".join(map(str, change.values())))
def test_useful_flops_are_what_the_counter_counts_of_each_image_alone(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a padded token, nor a target block beside a longer one."""
    config = tiny(
        **{"mask.num_targets": 3, "data.image_size": 32, "mask.min_context": 4, **change}
    )
    objective, given = objective_of(config, monkeypatch), batch(config, 6, torch.device("cpu"))
    images = [view[:1].to(META) for view in given if not isinstance(view, Masks)]

    def alone(*masks: Masks) -> int:
        return counted(objective, [*images, *(mask.to(META) for mask in masks)])

    total = 0
    for image in range(6):
        of_views = [own(mask, image) for mask in given if isinstance(mask, Masks)]
        if len(of_views) > 1:  # views cost each for itself: both with one mask cost it twice
            twice = [alone(*([blocks[0]] * len(of_views))) for blocks in of_views]
            total += sum(twice) // len(of_views)
            continue
        first, *others = of_views[0]
        total += alone(first)
        for one in others:  # a second block costs what two equal ones cost more than one
            pair = one._replace(targets=one.targets.repeat(1, 2, 1),
                                targets_valid=one.targets_valid.repeat(1, 2, 1))  # fmt: skip
            total += alone(pair) - alone(one)
    useful = objective.flops(*given, padding=False)
    assert type(useful) is int
    assert useful == total
    if config.objective.name == "data2vec":
        assert useful == objective.flops(*given), "it computes whole images"
    else:
        assert useful < objective.flops(*given)


def own(masks: Masks, image: int) -> list[Masks]:
    """An image's masks without padding, once for each of its target blocks."""
    context = masks.context[image, masks.context_valid[image]]
    blocks = [
        index[valid]
        for index, valid in zip(masks.targets[image], masks.targets_valid[image], strict=True)
    ]
    return [
        Masks(*(part[None] for part in (context, context > -1)),
              *(part[None, None] for part in (block, block > -1)))
        for block in blocks
    ]  # fmt: skip


@EVERY
def test_useful_flops_are_a_sum_over_images_and_never_more_than_the_computed(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(**change)
    objective, given = objective_of(config, monkeypatch), batch(config, 5, torch.device("cpu"))

    def part(start: int, stop: int) -> int:
        rows = [x.rows(start, stop) if isinstance(x, Masks) else x[start:stop] for x in given]
        useful: int = objective.flops(*rows, padding=False)
        assert 0 < useful <= objective.flops(*rows)
        return useful

    assert part(0, 5) == part(0, 2) + part(2, 5) == sum(part(i, i + 1) for i in range(5))


@pytest.mark.parametrize("name", variants.names("objectives"))
def test_where_nothing_is_padded_all_flops_are_useful(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = {"objective.name": name, "mask.name": "random", "mask.target_scale": 0.5}
    config = tiny(**change)
    objective, given = objective_of(config, monkeypatch), batch(config, 5, torch.device("cpu"))
    assert objective.flops(*given, padding=False) == objective.flops(*given)


def test_a_target_block_without_a_patch_needs_no_predictor() -> None:
    model, context = tiny().model, np.array([5])
    some, none = (flops.predictor(model, context, np.array([t]), 7) for t in ([3, 4], [3, 4, 0]))
    assert some == none > 0


def test_a_block_counted_by_hand() -> None:
    """Width 2, an MLP twice as wide, three tokens: multiply-adds one product at a time."""
    tokens, width, hidden = 3, 2, 4
    madds = 0
    for _ in range(tokens):
        madds += 3 * width * width  # query, key and value of a token
        madds += tokens * width  # its scores with all tokens
        madds += tokens * width  # the mean of their values
        madds += width * width  # projection
        madds += width * hidden + hidden * width  # MLP
    assert flops.block(2, 2.0, 3) == 2 * madds == 264
    # of one token only: 4 query + 24 keys and values + 6 + 6 + 4 + 16
    assert flops.block(2, 2.0, 3, queries=1) == 2 * 60
    assert flops.block(2, 2.0, 3, queries=3) == flops.block(2, 2.0, 3)


def test_a_layer_on_data_has_no_gradient_of_its_input() -> None:
    """Two layers: the first costs its forward pass twice, the second three times."""
    first, second = nn.Linear(5, 7), nn.Linear(7, 3)
    with FlopCounterMode(display=False) as counter:
        second(first(torch.randn(4, 5))).sum().backward()
    forward = flops.linear(4, 5, 7) + flops.linear(4, 7, 3)
    assert counter.get_total_flops() == flops.trained(forward, reads_data=flops.linear(4, 5, 7))


@pytest.mark.parametrize(("fused", "times"), [(False, 3.0), (True, 3.5)])
def test_fused_attention_is_what_is_counted_differently(fused: bool, times: float) -> None:
    """The reason that explicit attention is counted: it is the same on every device."""
    query, key, value = (torch.randn(1, 2, 8, 16, requires_grad=True) for _ in range(3))

    def attend() -> Tensor:
        if fused:
            return nn.functional.scaled_dot_product_attention(query, key, value)
        return (query @ key.transpose(-2, -1) / 4).softmax(-1) @ value

    with FlopCounterMode(display=False) as counter:
        attend().sum().backward()
    width = 32
    forward = flops.block(width, 4.0, 8) - flops.linear(8, width, 12 * width)  # all but attention
    assert counter.get_total_flops() == times * forward
