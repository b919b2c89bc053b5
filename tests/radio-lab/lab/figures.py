"""A figure of the bench, as the host reads it."""

import json


def tell(lab, figure, value, unit, target, more, beside):
    holds = value >= target if more else value <= target
    told = {"figure": figure, "value": round(value, 3), "unit": unit, "target": target, "more": more, "holds": holds, "beside": beside}
    lab.note(json.dumps(told, ensure_ascii=False))
