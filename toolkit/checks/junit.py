"""Verdicts as JUnit XML, the format that CI systems read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from toolkit.checks.verdict import Verdict

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(verdicts: Sequence[Verdict], suite: str = "patrol-edge check") -> str:
    """JUnit XML text; a gate without a verdict is one failure."""
    verdicts = verdicts or (Verdict("limits", False, None, "", "nothing was judged", "absent"),)
    failures = sum(not verdict.ok for verdict in verdicts)
    attributes = {"name": suite, "tests": str(len(verdicts)), "failures": str(failures), "errors": "0"}
    root = ET.Element("testsuites", attributes)
    element = ET.SubElement(root, "testsuite", attributes)
    for verdict in verdicts:
        subject = " / ".join(part for part in (verdict.variant, verdict.protocol) if part)
        name = f"{verdict.name} [{verdict.limit}]" + (f" {subject}" if subject else "")
        case = ET.SubElement(element, "testcase", {"classname": _clean(verdict.metric), "name": _clean(name)})
        if verdict.ok:
            ET.SubElement(case, "system-out").text = _clean(verdict.why)
        else:
            failure = ET.SubElement(case, "failure", {"type": verdict.reason, "message": _clean(verdict.why)})
            failure.text = _clean(verdict.why)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def write_junit(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write :func:`to_junit` to a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_junit(verdicts), encoding="utf-8")


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
