"""Training of small networks: one file a method, on a common loop.

Networks are chains (``nn.Sequential``) of convolutional, linear, flattening and relu layers where a method
looks into them. ``shipped`` trains what this repository ships, ``sweep`` the networks of the tightness study.
"""

from .colt_like import LocalLinearity
from .crown_ibp import CrownIbp
from .ibp import Ibp
from .mtl_ibp import MtlIbp
from .pgd import Pgd
from .plain import Plain
from .sabr import Sabr

#: Every method on 28 x 28 images, by name.
METHODS = {
    "plain": Plain,
    "pgd": Pgd,
    "ibp": Ibp,
    "sabr": Sabr,
    "mtl-ibp": MtlIbp,
    "crown-ibp": CrownIbp,
    "llr": LocalLinearity,
}
