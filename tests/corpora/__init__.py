"""Small corpora in the official layouts, with real codecs and spoken audio; for tests only.

Every writer is ``write_<name>(root, ..., seed=0) -> facts``: it makes the folder `root` (the data
root that a loader is given) and says what a loader must find there. All have the keys::

    root     Path, the data root
    ids      list[str], in order of writing
    labels   dict id -> label as the official files spell it (a code, a class name)
    classes  list[str], every label that occurs, sorted
    count    int, the number of labelled samples

Further keys, and what is odd in the files on purpose, stand in each writer's docstring. The same
seed gives the same ids, labels and media. `tests.corpora.damage` breaks files afterwards.
"""

from tests.corpora.ave import write_ave
from tests.corpora.cremad import CREMAD_CODES, write_cremad
from tests.corpora.food101 import write_food101
from tests.corpora.iemocap import IEMOCAP_CODES, write_iemocap
from tests.corpora.kinetics import write_kinetics
from tests.corpora.mvsa import write_mvsa
from tests.corpora.sequences import write_mosei, write_ur_funny
from tests.corpora.ucf101 import write_ucf101
from tests.corpora.vggsound import write_vggsound

__all__ = [
    "CREMAD_CODES",
    "IEMOCAP_CODES",
    "write_ave",
    "write_cremad",
    "write_food101",
    "write_iemocap",
    "write_kinetics",
    "write_mosei",
    "write_mvsa",
    "write_ucf101",
    "write_ur_funny",
    "write_vggsound",
]
