"""The report of the calibration benchmark as Markdown."""

from __future__ import annotations

import statistics
from typing import Any


def markdown(report: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    head = ("network", "pictures", "method", "seconds", "peak MiB", "cosine", "SQNR dB", "mAP", "Q / DQ")
    head += ("RTX", "TRT 8 errors", "efficiency findings")
    lines = [
        f"# Calibration side by side: {report['run']}",
        "",
        f"    {report['command']}",
        "",
        f"{report['machine']}; {versions}; {report['threads']} threads; {report['date']}; "
        f"load before {report['load_average']:.1f}.",
        "Seconds are the median of the repeats (least to most), memory is the peak of the process, quality is "
        "measured on test pictures.",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for row in report["calibrations"]:
        if "failed" in row:
            head_cells = f"| {row['network']} | {row['pictures']} | {row['method']} "
            lines.append(f"{head_cells}| failed within {row['failed']:g} GiB " + "| " * (len(head) - 4) + "|")
            continue
        seconds = f"{statistics.median(row['seconds']):.2f} ({min(row['seconds']):.2f}-{max(row['seconds']):.2f})"
        findings = ", ".join(f"{k} {v}" for k, v in row["efficiency_findings"].items()) or "none"
        cells = [row["network"], row["pictures"], row["method"], seconds, f"{row['rss_peak_mib']:.0f}"]
        cells += [f"{row['cosine']:.5f}", f"{row['sqnr_db']:.2f}", f"{row['map']:.4f}"]
        cells += [
            f"{row['quantize']} / {row['dequantize']}",
            row["tensorrt_rtx"],
            row["tensorrt8_errors"],
            findings,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    maps = {row["network"]: row["fp32_map"] for row in report["calibrations"] if "fp32_map" in row}
    lines += ["", "mAP of the FP32 halves: " + ", ".join(f"{k} {v:.4f}" for k, v in maps.items()), ""]
    lines += [
        "| threads | ONNX Runtime, batch 1 | p50 ms | p90 ms | times faster than dense fp32 |",
        "|---|---|---|---|---|",
    ]
    for row in report["latency"]:
        ratio = "" if row["times_faster"] is None else f"{row['times_faster']:.2f}"
        lines.append(
            f"| {row['threads']} | {row['variant']} | {row['p50_ms']:.3f} | {row['p90_ms']:.3f} | {ratio} |"
        )
    return "\n".join(lines) + "\n"
