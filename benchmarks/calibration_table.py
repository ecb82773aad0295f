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
    lines += _losses(report.get("losses", []))
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


def _losses(rows: list[dict[str, Any]]) -> list[str]:
    """What INT8 loses, with the paired interval over identities."""
    if not rows:
        return []
    lines = [
        "",
        "What INT8 loses in mAP against FP32 on the same queries, in points, with the 95 % paired interval over "
        "identities; the last column holds one-sided. SQNR is of the probe pictures.",
        "",
        "| network | INT8 | form | queries | mAP FP32 | loss, points | interval | at most | SQNR dB | seconds |",
        "|---" * 10 + "|",
    ]
    for row in rows:
        loss, low, high, most = (100 * row[name] for name in ("loss", "low", "high", "at_most"))
        lines.append(
            f"| {row['network']} | {row['stage']} | {row['form']} | {row['queries']} | {row['fp32_map']:.4f} "
            f"| {loss:.3f} | {low:.3f} to {high:.3f} | {most:.3f} | {row['sqnr_db']:.2f} | {row['seconds']:.1f} |"
        )
    tuned = {row["network"]: row for row in rows if row["stage"] == "fine-tuned"}
    for name, row in tuned.items():
        errors = ", ".join(f"{error:.3g}" for error in row["errors"])
        lines.append("")
        lines.append(
            f"{name}: distillation error before and after each epoch {errors}; epoch {row['best']} taken; "
            f"{row['agreement']:.2%} of the codes of PyTorch and form A are equal."
        )
    return lines
