"""An engine that was built in another power mode runs, and says so."""

from toolkit.engines.power_mode import power_mode, warn_of_mode
from toolkit.engines.sidecar import Sidecar


def jetson(root, mode):
    files = {
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 1, BOARD: generic, EABI: aarch64\n",
        "var/lib/nvpmodel/status": f"pmode:000{mode} fmode:quiet\n",
        "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_mode_is_read_and_another_one_warns(tmp_path, caplog):
    assert power_mode(tmp_path) is None
    root = jetson(tmp_path, 2)
    assert power_mode(root) == "MAXN_SUPER"
    sidecar = Sidecar(
        engine="tensorrt", version="10.3.0", precision="fp16", onnx_sha256="0" * 64, engine_sha256="0" * 64,
        engine_bytes=1, machine="", options={}, inputs=(), outputs=(), build_s=1.0, power_mode="MAXN_SUPER",
    )  # fmt: skip
    warn_of_mode(sidecar, root)
    assert not caplog.records
    warn_of_mode(sidecar, jetson(tmp_path, 0))
    assert "built in power mode MAXN_SUPER, now it is 15W" in caplog.text
