"""Images with a strong sign that survives small changes and a weak one, easier to learn, that does not."""

from medward.integrations.contracts.hardener import FAINT as EPSILON
from medward.integrations.contracts.hardener import SIDE as SIZE
from medward.integrations.contracts.hardener import faint_images as images
from medward.integrations.contracts.hardener import faint_network as net
from medward.integrations.contracts.hardener import plainly_trained as fitted

__all__ = ["EPSILON", "SIZE", "fitted", "images", "net"]
