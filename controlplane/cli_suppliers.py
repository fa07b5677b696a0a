"""The commands for a person at suppliers: sweep what is ours and unwanted, price and buy a capacity block.

Owns their arguments only, as `controlplane.cli` does for the others and adds these to them; it must not hold logic.
"""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

suppliers = typer.Typer()


@suppliers.command()
def sweep(
    policies: Annotated[list[Path], typer.Argument(help="policy files or folders", show_default=False)],
    end: Annotated[bool, typer.Option("--end", help="give back what is unwanted; left out: only list it")] = False,
    nats: Annotated[
        str | None, typer.Option("--nats", help="ask suppliers too that no policy names any more, as remembered on this server")
    ] = None,
) -> None:
    """List what suppliers hold in these fleets' names and no offer wants any more.

    Ends it with --end. Exit code 1 while something unwanted is left, or a supplier did not answer.
    """
    from controlplane.commands.suppliers import sweep as swept

    lines, code = asyncio.run(swept(policies, end=end, nats_url=nats))
    for line in lines:
        typer.echo(line)
    raise typer.Exit(code)


@suppliers.command("capacity-block")
def capacity_block(
    policy: Annotated[Path, typer.Argument(help="a policy file", show_default=False)],
    offer: Annotated[str, typer.Option("--offer", help="the offer whose purchase is capacityBlock")],
    machines: Annotated[int, typer.Option("--machines", help="machines in the block", min=1)] = 1,
    buy: Annotated[str | None, typer.Option("--buy", help="id of a block that was listed: buy it now; it cannot be given back")] = None,
    max_usd: Annotated[float | None, typer.Option("--max-usd", help="most money for the blocks held together, USD", min=0.01)] = None,
) -> None:
    """List the capacity blocks that AWS offers now with their prices, or buy one of them.

    This is how a person confirms a purchase where the policy's capacityBlock.confirm is on.
    """
    from controlplane.commands.suppliers import capacity_block as listed

    for line in asyncio.run(listed(policy, offer, machines, buy, max_usd)):
        typer.echo(line)
