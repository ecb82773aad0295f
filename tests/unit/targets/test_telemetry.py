"""Rails, clocks and throttling from a recorded tree; sampling; energy by integration."""

import sys
import time

import pytest

from targets.errors import TelemetryError
from targets.jetson.device.sampler import (
    Reading,
    Sampler,
    TegrastatsSampler,
    energy,
    from_sysfs,
    input_rails,
    throttled,
)
from targets.jetson.device.sysfs import read_gpu_clocks, read_rails, read_sample

from .recorded import LINES
from .test_detect import write

HWMON = "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon3"


def orin(root):
    return write(root, {
        f"{HWMON}/in1_label": "VDD_IN\n", f"{HWMON}/in1_input": "5016\n", f"{HWMON}/curr1_input": "1000\n",
        f"{HWMON}/in2_label": "VDD_CPU_GPU_CV\n", f"{HWMON}/in2_input": "5000\n", f"{HWMON}/curr2_input": "200\n",
        f"{HWMON}/in3_label": "VDD_SOC\n", f"{HWMON}/in3_input": "5000\n",
        f"{HWMON}/in7_label": "sum of shunt voltages\n", f"{HWMON}/in7_input": "9\n",
        f"{HWMON}/curr7_input": "9\n",
        "sys/class/devfreq/17000000.gpu/cur_freq": "621000000",
        "sys/class/devfreq/17000000.gpu/max_freq": "1020000000",
        "sys/class/devfreq/17000000.gpu/governor": "nvhost_podgov",
        "sys/class/devfreq/15340000.vic/cur_freq": "115200000",
        "sys/kernel/debug/bpmp/debug/clk/emc/rate": "2133000000",
        "sys/devices/platform/gpu.0/load": "635",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal", "sys/class/thermal/thermal_zone0/temp": "53968",
        "sys/class/thermal/thermal_zone1/type": "cv0-thermal", "sys/class/thermal/thermal_zone1/temp": "-256000",
        "sys/class/hwmon/hwmon1/oc1_event_cnt": "3",
        "sys/class/thermal/cooling_device0/type": "pwm-fan", "sys/class/thermal/cooling_device0/cur_state": "2",
        "sys/class/thermal/cooling_device1/type": "gpu-throttle-alert",
        "sys/class/thermal/cooling_device1/cur_state": "1",
    })  # fmt: skip


def test_orin_tree(tmp_path):
    sample = read_sample(orin(tmp_path))
    assert sample.rails == {"VDD_IN": pytest.approx(5016.0), "VDD_CPU_GPU_CV": pytest.approx(1000.0)}
    assert sample.gpu_hz == 621000000 and sample.emc_hz == 2133000000 and sample.gpu_load == 63.5
    assert sample.temperatures == {"cpu-thermal": 53.968}
    assert sample.throttle == {"oc1_event_cnt": 3, "gpu-throttle-alert": 1}
    assert read_gpu_clocks(tmp_path).governor == "nvhost_podgov"
    assert from_sysfs(tmp_path, lambda: 7.0).gpu_mhz == 621


def test_jetpack_4_tree(tmp_path):
    base = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    files = {
        f"{base}/rail_name_0": "POM_5V_IN\n",
        f"{base}/in_power0_input": "2500\n",
        f"{base}/rail_name_1": "X\n",
    }
    assert read_rails(write(tmp_path, files)) == {"POM_5V_IN": 2500.0}


def test_thor_tree(tmp_path):
    base = "sys/bus/i2c/drivers/ina238/2-0044/hwmon/hwmon5"
    write(tmp_path, {f"{base}/power1_label": "VIN", f"{base}/power1_input": "19780000"})
    write(tmp_path, {"sys/class/devfreq/gpu-gpc-0/cur_freq": "314000000"})
    assert read_rails(tmp_path) == {"VIN": 19780.0}
    assert read_gpu_clocks(tmp_path).current == 314000000


def test_an_empty_tree_has_nothing_rather_than_zeros(tmp_path):
    sample = read_sample(tmp_path)
    assert sample.rails == {} and sample.temperatures == {} and sample.throttle == {}
    assert sample.gpu_hz is None and sample.emc_hz is None and sample.gpu_load is None


def ramp(step=0.1, count=41):
    """Power that rises by 1 W a second from 2 W at second 0."""
    return [Reading(i * step, {"VDD_IN": 2000 + 1000 * i * step, "SOC": 500.0}) for i in range(count)]


def test_energy_of_a_ramp_is_exact():
    found = energy(ramp(), ["VDD_IN"], 0.55, 3.25, 0.2)
    assert found.joules == pytest.approx(2 * 2.7 + (3.25**2 - 0.55**2) / 2)
    assert found.watts == pytest.approx(found.joules / 2.7) and found.samples == 27
    both = energy(ramp(), ["VDD_IN", "SOC"], 1, 2, 0.2)
    assert both.joules == pytest.approx(3.5 + 0.5)


@pytest.mark.parametrize(("readings", "message"), [
    (ramp()[:10] + ramp()[20:], "apart"),
    (ramp()[:20], "not sampled over the whole"),
    (ramp()[15:], "not sampled over the whole"),
    ([], "not sampled"),
    ([*ramp()[:15], Reading(1.5, {"SOC": 1.0}), *ramp()[16:]], "lacks the rail VDD_IN; it has SOC"),
])  # fmt: skip
def test_a_gap_makes_the_measurement_absent(readings, message):
    with pytest.raises(TelemetryError, match=message):
        energy(readings, ["VDD_IN"], 1.0, 3.0, 0.2)


def test_energy_refuses_an_empty_interval():
    with pytest.raises(TelemetryError, match="end after its start"):
        energy(ramp(), ["VDD_IN"], 2.0, 2.0, 0.2)


def test_input_rails():
    assert input_rails(["VDD_SOC", "VDD_IN"]) == ("VDD_IN",)
    assert input_rails(["VDD_GPU_SOC", "VDD_CPU_CV"]) == ("VDD_GPU_SOC", "VDD_CPU_CV")
    with pytest.raises(TelemetryError, match="no power rails"):
        input_rails([])


def test_throttling_is_a_rise_of_a_counter_or_an_engaged_device():
    def reading(seconds, **values):
        return Reading(seconds, {}, throttle=values)

    assert throttled([reading(0, oc1_event_cnt=3), reading(1, oc1_event_cnt=3)]) == {}
    assert throttled([reading(0, oc1_event_cnt=3), reading(1, oc1_event_cnt=5)]) == {"oc1_event_cnt": 2}
    assert throttled([reading(0), reading(1, gpu=2), reading(2)]) == {"gpu": 2}
    assert throttled([]) == {}


def wait_for(sampler, count):
    deadline = time.monotonic() + 30
    while len(sampler.readings) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(sampler.readings) >= count


def test_sampler_reads_in_the_background(tmp_path):
    root = orin(tmp_path)
    with Sampler(0.01, lambda: from_sysfs(root)) as sampler:
        wait_for(sampler, 2)
        start, end = sampler.readings[0].seconds, time.monotonic()
        wait_for(sampler, len(sampler.readings) + 2)
    times = [reading.seconds for reading in sampler.readings]
    assert times == sorted(times)
    assert energy(sampler.readings, ["VDD_IN"], start, end, 60.0).watts == pytest.approx(5.016)
    with pytest.raises(TelemetryError, match="positive"):
        Sampler(0)


def test_tegrastats_is_followed(tmp_path):
    line = LINES["orin_nano_jp6_root"]
    script = f"import time\nwhile True:\n print({line!r}, flush=True)\n time.sleep(0.02)"
    with TegrastatsSampler(0.02, [sys.executable, "-c", script]) as sampler:
        wait_for(sampler, 3)
    assert sampler.readings[0].rails["VDD_IN"] == 12479 and sampler.readings[0].gpu_mhz == 621
    with (
        pytest.raises(TelemetryError, match="no-tegrastats-here cannot be started"),
        TegrastatsSampler(1, ["no-tegrastats-here"]),
    ):
        pass
