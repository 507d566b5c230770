"""Names of the 400 classes of Kinetics-400, and of the 31 of them that Kinetics-Sounds has.

The 400 are those of the official lists, in alphabetical order.

Kinetics-Sounds was defined by Arandjelović and Zisserman ("Look, Listen and Learn", 2017) as 34
classes of an early Kinetics. Three of them (typing, fingerpicking, patting) are not among the 400
as released, and some changed their names (blowing out → blowing out candles, dribbling ball →
dribbling basketball, mowing the lawn by pushing lawnmower → mowing lawn, stomping → stomping
grapes): 31 remain. Two loaders published with work on balanced multimodal learning list exactly
these 31, and the lists with OGM-GE's code number their classes 0 to 30; papers give about 14,799
training and 2,597 test clips of them [second-hand]. Lists with 27, 32 and 34 classes are in use
too; figures on them are not comparable.
"""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "classes"
KINETICS_400 = tuple((_FOLDER / "kinetics400.txt").read_text(encoding="utf-8").splitlines())
KINETICS_SOUNDS = tuple((_FOLDER / "kinetics_sounds.txt").read_text(encoding="utf-8").splitlines())
