"""`spec.quotes` of the policy YAML: where prices and stock of offers are known from, beside what their actuators quote.

Owns the blocks of the sources; `controlplane.quotes` reads what they compile to. That each entry names one source, and that offers
exist, is checked in `check`.
"""

from pydantic import Field

from policies.schema_fields import Block, Count, EnvironmentName, Name, NonNegative, Text, Url

QUOTE_SOURCES = ("static", "file", "http")


class StaticQuote(Block):
    """What is known of one offer without asking anybody."""

    offer: Name = Field(description="which offer of this fleet")
    usd_per_replica_hour: NonNegative | None = Field(None, description="price, USD per hour of one replica; left out: the offer's own")
    stock_replicas: Count | None = Field(None, description="replicas that can be had, such as a contract's quota; left out: not known")


class FileQuotes(Block):
    """A JSON file of quotes, read anew once a minute; replace it in one step."""

    path: Text = Field(description="path of the file; it must be there at the start")


class HttpQuotes(Block):
    """A JSON document of quotes over HTTP, asked once a minute."""

    url: Url = Field(description="address of the document, without credentials")
    bearer_token_env: EnvironmentName | None = Field(None, description="environment variable that holds a bearer token")
    bearer_token_file: Text | None = Field(None, description="mounted file that holds a bearer token, read each time")


class QuotesBlock(Block):
    """One source of prices and stock: exactly one of static, file, http."""

    static: tuple[StaticQuote, ...] | None = Field(None, min_length=1, max_length=128, description="stated here")
    file: FileQuotes | None = Field(None, description="read from a file")
    http: HttpQuotes | None = Field(None, description="read over HTTP")
