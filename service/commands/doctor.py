"""`simclr doctor`."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from service.commands import output
from service.doctor.checks import check_all
from service.doctor.finding import Finding

MARKS = {"ok": "[green]ok[/green]     ", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red] "}


def doctor(
    data_dir: Annotated[Path, typer.Option(help="Where the service is to keep its data.")] = Path("simclr-data"),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the API.")] = 8000,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Check whether this machine can run the service, and say what to do where it can't; status 1 then.

    Example: simclr doctor --data-dir /data/simclr
    """
    findings = []
    for finding in check_all(data_dir, port):
        findings.append(finding)
        if not as_json:
            _show(finding)
    is_healthy = all(finding.status != "failed" for finding in findings)
    if as_json:
        typer.echo(
            json.dumps({"is_healthy": is_healthy, "checks": [asdict(finding) for finding in findings]}, indent=2)
        )
    else:
        output.console.print(_verdict(findings))
    if not is_healthy:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    line = f"{MARKS[finding.status]} {escape(finding.name)}: {escape(finding.detail)}"
    output.console.print(line, soft_wrap=True, highlight=False)
    if finding.advice:
        output.console.print(f"        -> {escape(finding.advice)}", soft_wrap=True, highlight=False)


def _verdict(findings: Iterable[Finding]) -> str:
    names = [finding.name for finding in findings if finding.status == "failed"]
    return f"To mend first: {', '.join(names)}." if names else "All that is needed is there: `simclr up` starts it."
