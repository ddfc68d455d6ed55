"""The security page's table of rights is that of the roles, and no role holds what would make it stronger."""

from __future__ import annotations

import pytest

from tests.support.chart import HELM, of_kind, template
from tests.support.servers import ROOT
from tests.unit.test_chart import NAMESPACED, Right, granted, rights

pytestmark = pytest.mark.skipif(not HELM.exists(), reason="helm is not there; `make test` brings it")

PAGE = (ROOT / "docs" / "security.md").read_text()


def told(identity: str) -> set[Right]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]
    return {
        (group.removeprefix("core"), resource, verb)
        for who, group, resource, verbs, why in rows
        if who == identity and why
        for verb in verbs.split(", ")
    }


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["cluster", "namespaced"])
def test_the_page_lists_what_the_operator_may_do(values: dict[str, object]) -> None:
    roles = of_kind(template(values), "ClusterRole", "Role")
    elections = [role for role in roles if role["metadata"]["name"].endswith("election")]
    assert [rights(role["rules"]) for role in elections] == [told("election")]
    for role in roles:
        assert role in elections or told("operator") == rights(role["rules"])


def test_the_page_lists_what_a_poller_may_do() -> None:
    assert told("poller") == granted()


@pytest.mark.parametrize("values", [{}, NAMESPACED], ids=["cluster", "namespaced"])
def test_no_role_can_make_itself_stronger_or_reach_into_a_pod(values: dict[str, object]) -> None:
    held = granted().union(*(rights(role["rules"]) for role in of_kind(template(values), "ClusterRole", "Role")))

    assert not {verb for _, _, verb in held} & {"*", "escalate", "bind", "impersonate", "deletecollection", "approve"}
    assert not {resource for _, resource, _ in held if resource.partition("/")[0] in {"*", "secrets", "nodes"}}
    assert {(resource, verb) for _, resource, verb in held if "pods" in resource} == {
        ("pods", "list"),
        ("pods", "watch"),
    }
    assert {resource for _, resource, _ in held if resource.startswith("cluster")} == set()
