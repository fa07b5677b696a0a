"""Budget windows: hours of the week with a limit of their own, in the policy's time zone, and what was spent in those that are open.

Owns when a window is open and the spending counted from its opening. Nothing here fails open: in a zone that nobody knows every window
is open all day. `policies.budget` applies the limits; `policies.memory` carries `OpenWindow` from one decision to the next.
"""

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from controlplane.contracts.fleet import Budget, BudgetWindow
from policies.view import OpenWindow

SECONDS_PER_DAY = 86400.0


def open_windows(
    known: tuple[OpenWindow, ...], budget: Budget, now_unix: float, since_unix: float, usd_per_hour: float
) -> tuple[OpenWindow, ...]:
    """Return the windows that are open at `now_unix` with what was spent in each, after `usd_per_hour` since `since_unix`."""
    spent = {window.name: window for window in known}
    found = []
    for window in budget.windows:
        opened = opened_unix(window, budget.time_zone, now_unix)
        if opened is None:
            continue
        before = spent.get(window.name)
        usd = before.spent_usd if before is not None and before.opened_unix == opened else 0.0
        found.append(OpenWindow(window.name, opened, usd + usd_per_hour * max(now_unix - max(since_unix, opened), 0.0) / 3600.0))
    return tuple(found)


def limits(budget: Budget, open_now: tuple[OpenWindow, ...], spent_usd_today: float) -> tuple[float | None, float | None]:
    """Return the tightest USD per hour and the least USD that is left of any total; None where nothing limits."""
    hourly = budget.usd_per_hour
    left = budget.usd_per_day - spent_usd_today if budget.usd_per_day is not None else None
    if not open_now:
        return hourly, left
    stated = {window.name: window for window in budget.windows}
    for seen in open_now:
        window = stated.get(seen.name)
        if window is None:
            continue
        if window.usd_per_hour is not None:
            hourly = window.usd_per_hour if hourly is None else min(hourly, window.usd_per_hour)
        if window.usd is not None:
            left = window.usd - seen.spent_usd if left is None else min(left, window.usd - seen.spent_usd)
    return hourly, left


def opened_unix(window: BudgetWindow, time_zone: str, now_unix: float) -> float | None:
    """Return when the window that is open at `now_unix` was opened, None where it is closed.

    A window that ends at or before its start ends on the next day; its days are those that it starts on. Around a change of the clocks
    it begins and ends by the clock on the wall.
    """
    zone = _zone(time_zone)
    if zone is None:
        return now_unix // SECONDS_PER_DAY * SECONDS_PER_DAY
    today = datetime.fromtimestamp(now_unix, zone).date()
    for day in (today, today - timedelta(days=1)):
        if day.weekday() in window.days:
            starts, ends = _span(window, day, zone)
            if starts <= now_unix < ends:
                return starts
    return None


def _span(window: BudgetWindow, day: date, zone: tzinfo) -> tuple[float, float]:
    over = window.to_seconds <= window.from_seconds
    return _at(day, window.from_seconds, zone), _at(day + timedelta(days=1) if over else day, window.to_seconds, zone)


def _at(day: date, seconds: float, zone: tzinfo) -> float:
    """Return the unix time of a time of day by the wall clock; 24:00 is the next day's midnight."""
    extra, rest = divmod(seconds, SECONDS_PER_DAY)
    local = datetime(day.year, day.month, day.day, tzinfo=zone) + timedelta(days=extra, seconds=rest)
    return local.astimezone(UTC).timestamp()


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
