"""MEMIT (Meng et al. 2023, arXiv 2210.07229): write many facts into a model's weights at once.

Notation, shapes first, as in the paper:

    u          requests (columns of the solve; a group of one subject counts once)
    P          contexts x_j, the first empty
    R, L       edited layers in ascending order, and the last of them
    d, m       hidden size, and the size of the MLP's inner layer
    W_out      d x m    the down projection that is edited
    h          d        hidden state at the subject's last token S, at the output of a block
    z          d        target vector: the h at layer L that makes the model say the object (Eqn. 16)
    K          m x u    keys: the down projection's input at S (Eqn. 19)
    C          m x m    uncentred covariance of keys over ordinary text (Eqn. 15)
    r          d x u    residual that a layer is to bring about (Eqn. 20)
    delta      d x m    change of a layer's W_out (Eqn. 14)

To be read beside the paper, in the order of work: `settings`, `targets` (x_j and Eqn. 16), `covariance`
(Eqn. 15), `keys` (Eqn. 19), `solve` (Eqn. 14) and `spread` (Eqn. 17-20, Algorithm 1); `delta` holds the model in its
edited state. `fast/` is what makes them fast and changes nothing, `extensions/` what kbsync adds.
"""

from kbsync.memit.covariance import collect_covariances
from kbsync.memit.delta import WeightDelta, edited, matrices
from kbsync.memit.extensions.groups import RequestGroup, group_requests
from kbsync.memit.settings import MemitSettings, Preset, default_settings, load_preset, preset_names, write_preset
from kbsync.memit.solve import solve
from kbsync.memit.spread import spread
from kbsync.memit.targets import Target, optimise_targets, sample_contexts
