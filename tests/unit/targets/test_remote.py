"""Names of devices, and what is refused before anything is sent."""

import pytest

from targets.errors import DeployError
from targets.jetson.remote import DeployOptions, Host, deploy


@pytest.mark.parametrize(("text", "name", "port"), [
    ("nvidia@10.0.0.7", "nvidia@10.0.0.7", None), ("jetson.local:2222", "jetson.local", 2222),
])  # fmt: skip
def test_hosts(text, name, port):
    assert Host.parse(text) == Host(name, port) and str(Host.parse(text)) == text


@pytest.mark.parametrize("text", ["", "-oProxyCommand=evil", "a b", "user@host:port", "user@-x"])
def test_names_that_ssh_would_take_for_options_are_refused(text):
    with pytest.raises(DeployError, match="write user@host"):
        Host.parse(text)


def test_a_missing_bundle_is_refused(tmp_path):
    with pytest.raises(DeployError, match="there is no bundle"):
        deploy(Host("nobody@nowhere"), tmp_path / "none.tar.gz", DeployOptions())
