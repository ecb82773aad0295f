"""The parts of a sweep's report behind its table: what they are held against, and what that says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from toolkit.sweeps.evidence import Against, Axis, Verdict, matches, verdicts
from toolkit.sweeps.intervals import Value
from toolkit.sweeps.settings import EvidenceSettings
from toolkit.sweeps.table import Group, Row

Lines = list[str]
WORDS = {True: "**met**", False: "**missed**", None: "not decided"}


def evidence(groups: Sequence[Group], settings: EvidenceSettings) -> Lines:
    """All sections that the finished jobs allow."""
    rows = [entry.row for group in groups for entry in group.entries]
    lines: Lines = []
    for title, body in (
        ("What is read by name", _leaks(rows)),
        ("Leakage above the embedding, which the task discloses anyway", _excess(rows)),
        ("The training adversary's opinion against the independent attacker", _opinions(rows)),
        ("Several frames of one scene", _frames(rows)),
        ("Slack of the edge budget", _slack(rows)),
        ("At the same mAP", _matched(groups, "mAP", settings)),
        ("At the same rate", _matched(groups, "coded bytes", settings)),
        ("The target", _target([v for group in groups for v in verdicts(group, settings)], settings)),
    ):
        if body:
            lines += [f"## {title}", "", *body, ""]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Lines:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return [*lines, *("| " + " | ".join(cells) + " |" for cells in rows)]


def _leaks(rows: Sequence[Row]) -> Lines:
    names = list(dict.fromkeys(name for row in rows for name in row.leaks))
    asked = [row for row in rows if row.leaks or row.unread or row.background is not None]
    if not asked:
        return []
    unread = sorted({name for row in asked for name in row.unread})
    outside = any(row.background is not None for row in asked)
    body = []
    for row in asked:
        cells = [text(row.leaks[name].above) if name in row.leaks else "" for name in names]
        cells += [] if not outside else ["" if row.background is None else f"{row.background:+.3f}"]
        body.append([named(row), *cells])
    lines = (
        _table(["method", *names, *(["SSIM outside the vehicle"] if outside else [])], body)
        if names or outside
        else []
    )
    lines += [
        "",
        "Accuracy above chance of the best recogniser of codes or reconstructions; SSIM above the mean picture's.",
    ]
    tied = sorted({name for row in asked for name, leak in row.leaks.items() if not leak.per_picture})
    if tied:
        lines.append(f"The same in every picture of a vehicle, so evidence of the identity: {', '.join(tied)}.")
    if unread:
        lines.append(f"Not reported, as the recogniser cannot read the originals either: {', '.join(unread)}.")
    return lines


def _excess(rows: Sequence[Row]) -> Lines:
    above = [row for row in rows if row.excess is not None]
    if not above:
        return []
    names = list(dict.fromkeys(name for row in above for name in row.leak_excess))
    body = []
    for row in above:
        contents = [f"{row.leak_excess[name]:+.3f}" if name in row.leak_excess else "" for name in names]
        body.append([named(row), f"{row.excess:+.3f}", f"{row.r2_excess:+.3f}", *contents])
    return _table(["method", "normalized SSIM", "R²", *names], body)


def _opinions(rows: Sequence[Row]) -> Lines:
    judged = [row for row in rows if row.opinion is not None]
    if not judged:
        return []
    body = []
    for row in judged:
        gap = row.r2.value - (row.opinion or 0.0)
        body.append([named(row), f"{row.opinion:.3f}", f"{row.r2.value:.3f}", f"{gap:+.3f}"])
    head = ["method", "R² of the training adversary", "R² of the independent attacker", "gap"]
    note = "The training adversary is judged on augmented training pictures, the attacker on test pictures."
    return [*_table(head, body), "", note]


def _frames(rows: Sequence[Row]) -> Lines:
    """What noise and dropout that are drawn anew for every frame still hide."""
    drawn = [row for row in rows if row.frames]
    if not drawn:
        return []
    counts = sorted({count for row in drawn for count in row.frames})
    body = [
        [
            named(row),
            f"{row.ssim.value:.3f}",
            *(f"{row.frames[count]:.3f}" if count in row.frames else "" for count in counts),
        ]
        for row in drawn
    ]
    head = ["normalized SSIM", "1 frame", *(f"{count} frames" for count in counts)]
    note = (
        "Frames are averaged or decoded jointly, whichever tells more. All other rows send the same codes each "
        "time."
    )
    return [*_table(head, body), "", note]


def _slack(rows: Sequence[Row]) -> Lines:
    """Share of the shallow dense split's cost that is left over; negative where more is spent."""
    held = [row for row in rows if row.limits]
    if not held:
        return []
    body = [[named(row), *(_left(row, name, used) for name, used in COSTS.items())] for row in held]
    device = any(row.latency_ms is not None for row in held)
    head = ["method", "MACs", "parameters", "activation bytes", "wire bytes", "predicted latency"]
    first = held[0].limits
    note = (
        f"The shallow dense split costs {first['macs'] / 1e6:.2f} M MACs, {first['parameters']:,.0f} parameters, "
        f"{first['activation_bytes']:,.0f} activation bytes, {first['wire_bytes']:,.0f} wire bytes. In brackets: "
        "the share of it that is left; negative where a row spends more."
    )
    if device:
        note += (
            " Latency is predicted for FP16, and the upper end of its 90 % interval is held against the split's."
        )
    return [*_table(head if device else head[:-1], [cells if device else cells[:-1] for cells in body]), "", note]


COSTS: dict[str, Callable[[Row], float | None]] = {
    "macs": lambda row: row.macs,
    "parameters": lambda row: row.parameters,
    "activation_bytes": lambda row: row.activation_bytes,
    "wire_bytes": lambda row: row.bytes_raw,
    "latency_ms": lambda row: None if row.latency_ms is None else row.latency_ms[2],
}


def _left(row: Row, name: str, used: Callable[[Row], float | None]) -> str:
    spent, limit = used(row), row.limits.get(name)
    if spent is None or limit is None:
        return ""
    amount = (
        f"{spent / 1e6:.2f} M"
        if name == "macs"
        else f"{spent:.3g} ms"
        if name == "latency_ms"
        else f"{spent:,.0f}"
    )
    return f"{amount} ({1 - spent / limit:+.0%})"


def _matched(groups: Sequence[Group], axis: Axis, settings: EvidenceSettings) -> Lines:
    found = matches(groups, axis, settings)
    near = (
        f"{settings.map_tolerance:.3f} of mAP" if axis == "mAP" else f"{settings.rate_tolerance:.0%} of the bytes"
    )
    if not found:
        forms = any(entry.row.role == "form" for group in groups for entry in group.entries)
        none = f"No baseline within the edge budget has points around a form, or one within {near}."
        return [none] if forms else []
    names = list(dict.fromkeys(name for match in found for name in match.leaks))
    body = [
        [
            named(match.row),
            match.method,
            f"{match.map:.3f} ({match.row.map.value - match.map:+.3f})",
            f"{match.bytes_entropy:,.0f} B",
            f"{match.r2:.3f}",
            f"{match.ssim:.3f}",
            text(match.change, sign=True),
            *(f"{match.leaks[name]:.3f}" if name in match.leaks else "" for name in names),
            match.how,
        ]
        for match in found
    ]
    head = ["form", "baseline", "mAP", "coded", "R²", "normalized SSIM", "change of SSIM", *names, "point"]
    note = (
        "Numbers of the baselines within the edge budget; in brackets and under change: the form's minus theirs. "
        f"Between two points of a method it is interpolated, else the nearest point within {near} is taken; "
        "nothing is extrapolated, and what is not listed has no point there."
    )
    return [*_table(head, body), "", note]


def _target(found: Sequence[Verdict], settings: EvidenceSettings) -> Lines:
    if not found:
        return []
    aim = (
        f"One-sided 95 % bound of the mAP loss below {settings.map_loss:.3f}, within the edge budget, and "
        f"normalized SSIM and plate accuracy above chance at most {settings.leakage:.2f} of the best baseline's, "
        "which is the one that leaks least by that measure. A share is met by its value; its interval says how "
        "sure that is."
    )
    head = [
        "form", "best baseline", "mAP loss at most", "edge budget", "mAP to it", "SSIM to it", "share of its SSIM",
        "plate to it", "share of its plate", "target",
    ]  # fmt: skip
    body = [
        [
            f"{named(verdict.row)}, {verdict.reading}",
            _best(verdict),
            "" if verdict.map_loss is None else f"{verdict.map_loss:.3f}",
            {True: "kept", False: "over", None: ""}[verdict.within],
            text(verdict.map_change, sign=True),
            _change(verdict.ssim),
            _share(verdict.ssim),
            _change(verdict.plate),
            _share(verdict.plate),
            WORDS[verdict.holds(settings)],
        ]
        for verdict in found
    ]
    unread = any(verdict.plate is None for verdict in found)
    missing = (
        ["", "A form without a plate's share is not decided, unless it misses another part."] if unread else []
    )
    return [aim, "", *_table(head, body), *missing]


def _best(verdict: Verdict) -> str:
    names = [part.baseline for part in (verdict.ssim, verdict.plate) if part]
    return ", plate: ".join(dict.fromkeys(names)) or "none"


def _change(against: Against | None) -> str:
    return text(against.change, sign=True) if against else ""


def _share(against: Against | None) -> str:
    return text(against.ratio) if against else ""


def named(row: Row) -> str:
    """Method and point."""
    point = ", ".join(f"{name} {value}" for name, value in row.point.items())
    return f"{row.method}, {point}" if point else row.method


def text(value: Value | None, sign: bool = False) -> str:
    """A number with its interval; empty where there is none."""
    if value is None:
        return ""
    form = "+.3f" if sign else ".3f"
    return f"{value.value:{form}} ({value.low:{form}} to {value.high:{form}})"
