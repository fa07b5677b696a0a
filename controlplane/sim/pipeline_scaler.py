"""tidegate itself as a scaler: the production pipeline behind the protocol that its peers implement.

Owns nothing but the hand-over of frames and launches; it must not add or hide information. `controlplane.pipeline` decides.
"""

from controlplane.contracts.events import Launch
from controlplane.contracts.fleet import Fleet
from controlplane.contracts.frame import DecisionLine, Frame
from controlplane.pipeline import Pipeline
from controlplane.sim.scaler import answer


class PipelineScaler:
    """One fleet's pipeline. The class is its own `ScalerFactory`."""

    def __init__(self, fleet: Fleet) -> None:
        self._pipeline = Pipeline(fleet)
        self._state = self._pipeline.start()

    def decide(self, frame: Frame) -> DecisionLine:
        """Answer one frame."""
        self._state, verdict = self._pipeline.frame(self._state, frame)
        return answer(frame, verdict.targets, verdict.spill_per_second, tuple(reason.value for reason in verdict.reasons))

    def announce(self, launch: Launch) -> None:
        """Fold an announced launch."""
        self._state = self._pipeline.tell(self._state, launch)
