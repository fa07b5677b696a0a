"""The text that engines expose, both formats → the samples that play a part, quickly.

Owns the reading of a page. A line is parsed by prometheus_client once for each series; after that its text up to the value is looked up,
since pages differ from one scrape to the next in nothing but values. It must not know any name: `resolve` says what a sample is for.
"""

from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families

SERIES_REMEMBERED = 200_000


class Reader[Part]:
    """Reads pages. `resolve(name, labels)` gives the parts that a series plays; one that plays none costs a look-up from then on.

    `malformed` counts lines that are not of the format, over all pages.
    """

    def __init__(self, resolve: Callable[[str, Mapping[str, str]], tuple[Part, ...]]) -> None:
        self._resolve = resolve
        self._parts: dict[str, tuple[Part, ...]] = {}
        self.malformed = 0

    def read(self, text: str) -> list[tuple[str, Part, float]]:
        """Return (series, part, value) of every sample that plays a part. The series is its name and labels as written."""
        found: list[tuple[str, Part, float]] = []
        known = self._parts
        for line in text.split("\n"):
            if not line or line[0] == "#":
                continue
            key, _, value = line.rpartition(" ")
            parts = known.get(key)
            if parts is None:
                found += self._parse(line)
            elif parts:
                try:
                    number = float(value)
                except ValueError:
                    self.malformed += 1
                    continue
                found += [(key, part, number) for part in parts]
        return found

    def _parse(self, line: str) -> list[tuple[str, Part, float]]:
        """Parse one line in full, and remember its series where the line is only that and a value (no timestamp, no exemplar)."""
        line = line.strip()
        try:
            samples = [sample for family in text_string_to_metric_families(line + "\n") for sample in family.samples]
        except (ValueError, IndexError, KeyError):
            samples = []
        if len(samples) != 1:
            self.malformed += bool(line)
            return []
        sample = samples[0]
        parts = self._resolve(sample.name, sample.labels)
        key, _, rest = line.rpartition(" ")
        if sample.timestamp is None and rest and _is_number(rest):
            if len(self._parts) >= SERIES_REMEMBERED:
                self._parts.clear()
            self._parts[key] = parts
        else:
            key = f"{sample.name}{sorted(sample.labels.items())}"
        return [(key, part, float(sample.value)) for part in parts]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
