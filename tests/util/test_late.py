"""What a registry names is what Python's own import finds; a name that is not there is an error, not None."""

from __future__ import annotations

import pytest

from beichen.util.late import resolve
from beichen.util.progress import Reporter


def test_the_attribute_of_the_module():
    assert resolve("beichen.util.progress:Reporter") is Reporter


@pytest.mark.parametrize(("path", "fault"), [("beichen.util.progress:Nothing", AttributeError), ("beichen.util.nothing:x", ImportError)])
def test_what_is_not_there_is_an_error(path, fault):
    with pytest.raises(fault):
        resolve(path)
