"""Says what is wrong with a bill of materials, by the strict schema of CycloneDX 1.6; nothing where it is as it should be.

    bill.py FILE"""

import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text())
if wrong:
    sys.exit(str(wrong))
