import dataclasses
from pathlib import Path
from typing import Any

import pytest
from conftest import params, tiny

from ijepa import config, strict


def test_the_evaluation_alone_is_a_function_of_the_other_data_sets() -> None:
    plain, with_other = tiny(), tiny(**{"evaluate.transfer": [{"name": "cifar10"}]})
    for stage in ("prepare", "pretrain", "evaluate"):
        same = config.parameters(plain, stage) == config.parameters(with_other, stage)
        assert same == (stage != "evaluate")


def test_scalar_and_list_are_one_identity() -> None:
    scalar, pair = tiny(**{"mask.target_scale": 0.2}), tiny(**{"mask.target_scale": [0.2, 0.2]})
    assert scalar == pair
    assert config.signature(scalar) == config.signature(pair)
    assert config.signature(scalar) != config.signature(tiny())


def test_int_and_float_are_one_identity() -> None:
    assert config.signature(tiny(**{"train.epochs": 3})) == config.signature(
        tiny(**{"train.epochs": 3.0})
    )


def test_a_number_where_a_text_belongs_is_offered_in_quotes_where_that_helps() -> None:
    def said(kind: object, raw: object, place: str = "params.yaml: k", **allowed: Any) -> str:
        with pytest.raises(ValueError, match="is not") as error:
            strict.value(kind, raw, place, **allowed)
        return str(error.value).partition("; ")[2]

    text = dict(strict.text().metadata)
    assert said(str, True, **text) == "as a text: -S 'k=\"true\"'"
    assert said(tuple[str, ...], 1.5) == "as a text: -S 'k=\"1.5\"'"
    assert said(str, 7, "experiments/mine.yaml: title") == 'as a text: "7"'
    for kind, raw in ((str, ""), (str, None), (str, [1]), (int, "1"), (tuple[int, ...], [1, "a"])):
        assert said(kind, raw, **text) == ""
    assert said(str, 3, **strict.choice("a", "b").metadata) == ""


def test_what_refuses_equal_images_is_no_part_of_the_identity() -> None:
    transfer = [{"name": "cifar10", "duplicates": "refuse"}]
    assert config.signature(tiny(**{"data.duplicates": "refuse"})) == config.signature(tiny())
    assert config.signature(tiny(**{"evaluate.transfer": transfer})) == config.signature(
        tiny(**{"evaluate.transfer": [{"name": "cifar10"}]})
    )
    refusing = config.parameters(tiny(**{"data.duplicates": "refuse"}), "prepare")
    assert refusing != config.parameters(tiny(), "prepare")  # or DVC would not look again


def test_an_unused_variants_key_is_not_part_of_the_identity() -> None:
    cifar = {"data.name": "cifar10", "data.path": "a"}
    other = {"data.name": "cifar10", "data.path": "b"}
    assert config.signature(tiny(**cifar)) == config.signature(tiny(**other))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mask.target_scale": 1.5}, "params.yaml: mask.target_scale: 1.5 is not a number, or"),
        ({"mask.target_scale": [0.2, 0.1]}, "params.yaml: mask.target_scale: [0.2, 0.1] is not"),
        ({"mask.target_scal": 0.2}, "mask.target_scal: 0.2: unknown key; did you mean target_sc"),
        ({"mask.geometry": "oficial"}, "mask.geometry: 'oficial' is not one of paper, official"),
        (
            {"mask.name": "multiblok"},
            "mask.name: 'multiblok' is not one of ",
        ),
        ({"mask.num_targets": 4.0}, "mask.num_targets: 4.0 is not a whole number from 1 to 64"),
        ({"mask.num_targets": True}, "mask.num_targets: True is not a whole number"),
        ({"mask.target_scale": 0.9}, "mask.target_scale: 0.9 with target_aspect [0.75, 1.5]"),
        ({"mask.min_context": 16}, "mask.min_context: 16 context patches of a 4 x 4 grid"),
        ({"seed": "0"}, "params.yaml: seed: '0' is not a whole number"),
        ({"train.lr": "1e-3"}, "train.lr: '1e-3' is not a number"),
        ({"train.flip": 1}, "train.flip: 1 is not true or false"),
        ({"model.patch_size": 5}, "model.patch_size: 5 does not divide data.image_size 16"),
        ({"model.width": 18}, "model.width: 18 is not a multiple of 4"),
        ({"train.warmup_epochs": 3}, "train.warmup_epochs: 3 is not less than train.epochs 3"),
        (
            {"evaluate.held_out": 0.3, "evaluate.folds": 4},
            "evaluate.folds: 4 of evaluate.held_out 0.3 are more than all labels; at most 3",
        ),
        ({"evaluate.folds": 0}, "evaluate.folds: 0 is not a whole number >= 1"),
        ({"evaluate.last_layers": 3}, "evaluate.last_layers: 3 is more than model.depth 2"),
        ({"mask": None}, "params.yaml: mask: None is not a mapping"),
        ({"data.name": 5}, "data.name: 5 is not a text"),
        (
            {"data.name": "folder", "data.path": 2024},
            "params.yaml: data.path: 2024 is not a text that is not empty; as a text:"
            " -S 'data.path=\"2024\"'",
        ),
        (
            {"data.name": "parquet", "data.label_columns": [2019, "kind"]},
            "data.label_columns: [2019, 'kind'] is not a list of values, each a text; as a text:"
            ' -S \'data.label_columns=["2019", "kind"]\'',
        ),
        ({"data.bad_images": True}, "data.bad_images: True is not one of fail, skip"),
        ({"data.duplicates": "drop"}, "data.duplicates: 'drop' is not one of report, refuse"),
    ],
)
def test_bad_input_is_one_line_with_file_key_value_and_what_is_allowed(
    change: dict[str, object], words: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the text is compared below)
        tiny(**change)
    assert words in str(caught.value)
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("cifar10", "evaluate.transfer: 'cifar10' is not a list, such as [{name: cifar10}]"),
        (None, "evaluate.transfer: None is not a list"),
        ({"name": "cifar10"}, "evaluate.transfer: {'name': 'cifar10'} is not a list"),
        (["cifar10"], "evaluate.transfer[0]: 'cifar10' is not a data set's name and the keys of"),
        ([{"name": "cifar10"}, {"path": "pets"}], "evaluate.transfer[1]: {'path': 'pets'} is not"),
        ([{"name": "cifar100"}], "evaluate.transfer[0].name: 'cifar100' is not one of "),
        ([{"name": 5}], "evaluate.transfer[0].name: 5 is not a text"),
        ([{"name": "folder", "pth": "x"}], "evaluate.transfer[0].pth: 'x': unknown key; did you"),
        ([{"name": "folder", "path": ""}], "evaluate.transfer[0].path: '' is not a text that"),
        (
            [{"name": "parquet", "label_columns": [3]}],
            "evaluate.transfer[0].label_columns: [3]",
        ),
        ([{"name": "cifar10", "bad_images": "x"}], "evaluate.transfer[0].bad_images: 'x' is not"),
        (
            [{"name": "folder", "path": "a"}, {"name": "folder", "path": "b"}],
            "evaluate.transfer[1].name: 'folder' is evaluate.transfer[0] too; results go by this",
        ),
    ],
)
def test_a_wrong_transfer_is_one_line_that_names_the_entry(entries: object, words: str) -> None:
    with pytest.raises(ValueError, match=r"^params\.yaml: evaluate\.transfer") as caught:
        tiny(**{"evaluate.transfer": entries})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_transfer_overrides_the_data_section_and_takes_the_rest_from_it() -> None:
    entry = {"name": "parquet", "path": "x", "label_columns": ["fine"], "bad_images": "skip"}
    chosen = tiny(**{"data.path": "y", "data.max_bad_fraction": 0.5, "evaluate.transfer": [entry]})
    (data,) = chosen.evaluate.transfer
    assert (data.options.path, data.options.label_columns) == ("x", ("fine",))
    assert (data.options.image_column, data.max_bad_fraction) == ("image", 0.5)
    assert (data.bad_images, chosen.data.bad_images) == ("skip", "fail")
    assert chosen.data.name == "scenes"
    assert config.parse(params(**config.as_tree(chosen)), "x") == chosen


def test_missing_key() -> None:
    tree = params()
    del tree["train"]["lr"]
    with pytest.raises(ValueError, match=r"params\.yaml: train\.lr: missing; a number in \(0"):
        config.parse(tree, "params.yaml")


def test_yaml_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    text = Path("params.yaml").read_text().replace("lr: 0.001\n", "lr: 1e-3\n", 1)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert "lr: 1e-3" in text
    assert config.load(path) == config.load()


def test_no_file_and_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        config.load(tmp_path / "params.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match="not YAML"):
        config.load(tmp_path / "broken.yaml")


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        tiny().seed = 1  # type: ignore[misc]


def test_tree_round_trip() -> None:
    chosen = tiny()
    assert config.parse(params(**config.as_tree(chosen)), "x") == chosen


@pytest.mark.parametrize(
    ("share", "most"), [(0.2, 5), (0.1, 10), (1 / 3, 3), (0.3, 3), (0.07, 14)]
)
def test_folds_are_at_most_all_labels(share: float, most: int) -> None:
    for folds in (1, most):
        assert tiny(**{"evaluate.held_out": share, "evaluate.folds": folds})
    with pytest.raises(ValueError, match=rf"evaluate\.folds: .* at most {most}$"):
        tiny(**{"evaluate.held_out": share, "evaluate.folds": most + 1})
