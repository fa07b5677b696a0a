"""What each reason of a decision means, in a line for people: the dashboard, the reports and the operator's page say it in these words.

Owns the words only; the stages of `policies` give the reasons.
"""

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.contracts.events import Reason

REASON_WORDS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.FLOOR_IS_SUNK: "the floor is paid either way, so it is used in full",
        Reason.LAYER_PAYS: "one more replica is expected to pay for its rent and its boot",
        Reason.LAYER_HELD: "what is rented goes on to pay for itself",
        Reason.LAYER_RELEASED: "the idle time ahead of a rented replica costs more than booting another would",
        Reason.BACKLOG: "work is waiting, and counts as demand",
        Reason.NO_DATA_YET: "demand, or what an offer holds, is not known yet: nothing is taken away",
        Reason.WITHIN_TOLERANCE: "the change is smaller than the tolerance",
        Reason.STABILIZED: "the stabilization window still holds an earlier recommendation",
        Reason.MINIMUM_HOLD: "what was rented is kept for its minimum hold",
        Reason.COOLDOWN: "the offer was changed lately",
        Reason.STEP_LIMITED: "the change was larger than one step may be",
        Reason.REMOVALS_LIMITED: "no more replicas may be taken away in this period",
        Reason.ROUNDED_TO_LOT: "replicas come in lots",
        Reason.RAISED_TO_FLOOR: "the policy's least number of replicas",
        Reason.CLAMPED_TO_CEILING: "the policy's largest number of replicas",
        Reason.CLAMPED_TO_STOCK: "the supplier's stock or quota holds no more",
        Reason.CLAMPED_TO_BUDGET: "the budget pays for no more",
        Reason.OFFER_UNAVAILABLE: "the offer refuses or does not answer, so it grows no further",
        Reason.PRICE_UNKNOWN: "the offer's price is not known, so it grows no further",
        Reason.PRICE_ABOVE_CEILING: "the offer costs more than the policy's ceiling, so it grows no further",
        Reason.STALE_HOLD: "the newest demand is too old to take anything away",
        Reason.IMPLAUSIBLE_HOLD: "the newest demand is hard to believe, so nothing is taken away",
        Reason.POKE_NEVER_SHRINKS: "decided early, on an alert or a refusal, which takes nothing away",
        Reason.ALERT_LIFT: "an alert asks for more replicas for a while",
        Reason.DRAINED: "the policy drains what is rented, or the fleet",
        Reason.FROZEN: "the policy or an alert forbids every change",
        Reason.SPILL_OPEN: "the gateway may spill what would miss the SLO",
        Reason.SPILL_CLOSED: "nothing may be spilled: the budget or the spill offer's limit leaves nothing for it",
        Reason.STEADY: "nothing moves",
    }
)
