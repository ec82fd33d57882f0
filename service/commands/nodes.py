"""`simclr nodes`."""

from service.commands.connection import LOCAL, Url, connected
from service.commands.output import ID_WIDTH, Column, show_list


def nodes(url: Url = LOCAL) -> None:
    """List the workers, with their free slots and the jobs that they run."""
    titles = ("name", "alive", "address", "free", "running")
    with connected(url) as client:
        rows = [
            {
                **node,
                "alive": "yes" if node["is_alive"] else "no",
                "free": ", ".join(f"{node['free_slots'][kind]}/{n} {kind}" for kind, n in node["slots"].items()),
                "running": ", ".join(part["job_id"] for part in node["running"]),
            }
            for node in client.get("/v1/system")["nodes"]
        ]
        show_list(
            iter(rows), [Column(title, title, ID_WIDTH if title == "running" else None) for title in titles], len(rows)
        )
