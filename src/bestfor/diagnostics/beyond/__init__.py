"""Look beyond the curve: larger pools, the best fixed N, other rules, and how much data is needed."""

from bestfor.moved import renamed

__getattr__ = renamed(
    __name__,
    {
        "Beyond": "diagnostics.beyond.measure:SampleMeasurements",
        "ModelBeyond": "diagnostics.beyond.measure:ModelMeasurements",
    },
)
