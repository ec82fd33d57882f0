"""Which variant of a model serves."""

from pathlib import Path

import pytest

from models.variants import FILES, VARIANTS, Variant
from service.core import model_files
from service.core.tables import Model

ALL = Model(id="mdl_1", files={FILES[variant]: {} for variant in VARIANTS})
FLAGS = "processor : 0\nflags\t\t: fpu sse2 avx2 {}\n"


@pytest.mark.parametrize(
    ("gpu", "flag", "served"),
    [
        (True, "", "float16"),
        (True, "avx512_vnni", "float16"),
        (False, "avx512_vnni", "int8"),
        (False, "avx_vnni", "int8"),
        (False, "avx512f", "float32"),
    ],
)
def test_auto_takes_what_the_machine_is_good_at(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,  # noqa: FBT001  # a parameter
    flag: str,
    served: Variant,
) -> None:
    """float16 on a GPU; int8 on a CPU whose flags say that it has 8-bit dot products, else float32."""
    (tmp_path / "cpuinfo").write_text(FLAGS.format(flag))
    monkeypatch.setattr(model_files, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(model_files, "has_gpu", lambda: gpu)
    assert model_files.serving_variant(ALL, "auto") == served


def test_auto_without_cpuinfo_is_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that doesn't tell its CPU's flags gets what is right on any."""
    monkeypatch.setattr(model_files, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(model_files, "has_gpu", lambda: False)
    assert model_files.serving_variant(ALL, "auto") == "float32"


@pytest.mark.parametrize("wanted", VARIANTS)
def test_float32_serves_where_another_isn_t_published(wanted: Variant) -> None:
    """A model of an older release has model.onnx alone."""
    assert model_files.serving_variant(ALL, wanted) == wanted
    assert model_files.serving_variant(Model(id="mdl_1", files={"model.onnx": {}}), wanted) == "float32"
