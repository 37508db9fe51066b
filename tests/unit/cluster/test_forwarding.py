"""A forwarded port is the pod's, or the block is not entered. The commands replace kubectl, with its output."""

import pytest
from hitcounter_cluster.forwarding import forwarded
from hitcounter_devstack import StartError
from hitcounter_devstack.environment import inherited_environment


def shell(script: str) -> list[str]:
    return ["bash", "-c", script]


def test_port_that_kubectl_has_is_forwarded_until_the_block_ends() -> None:
    script = "echo 'Forwarding from 127.0.0.1:20001 -> 8001'; echo 'Forwarding from [::1]:20001 -> 8001'; exec sleep 60"
    with forwarded(shell(script), 20001, inherited_environment()):
        pass


@pytest.mark.parametrize(
    "said",
    [
        "Forwarding from [::1]:20001 -> 8001",
        "Unable to listen on port 20001: Listeners failed to create with the following errors: …",
        "error: unable to forward port because pod is not running",
    ],
)
def test_port_that_somebody_else_has_is_an_error_with_the_words_of_kubectl(said: str) -> None:
    with (
        pytest.raises(StartError, match="not forwarded") as refused,
        forwarded(shell(f"echo '{said}'; exit 1"), 20001, inherited_environment()),
    ):
        pytest.fail("the block was entered")
    assert said in str(refused.value)
