"""Every public name has a docstring and a place in the API pages."""

import importlib
import inspect
import re
import types

import pytest

import larq_filter as lf
from paths import ROOT

pytestmark = pytest.mark.docs

PAGES = {
    path.stem: re.findall(r"^::: (\S+)", path.read_text(), re.MULTILINE)[0]
    for path in (ROOT / "docs/api").glob("*.md")
}
MODULES = {page: name for page, name in PAGES.items() if page != "index"}


def public(module):
    """Names of ``__all__``; without it functions and classes that the module defines."""
    names = getattr(module, "__all__", None)
    if names is not None:
        return names
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def undocumented(value):
    """Whether a reader would find no text on the name."""
    return isinstance(value, type | types.FunctionType) and not inspect.getdoc(value)


def own_methods(kind):
    """Public methods that a class declares: what it overrides is documented where that is."""
    overridden = {name for base in kind.__mro__[1:] for name in vars(base)}
    fields = getattr(kind, "__dataclass_fields__", {})
    return {
        name: value
        for name, value in vars(kind).items()
        if not name.startswith("_") and name not in overridden and name not in fields
    }


@pytest.fixture(scope="module")
def anchors(site):
    return {
        page: set(re.findall(r'id="([^"]+)"', (site / f"api/{page}.html").read_text()))
        for page in PAGES
    }


def test_every_public_module_has_a_page():
    modules = {
        value.__name__
        for value in (getattr(lf, name) for name in lf.__all__)
        if isinstance(value, types.ModuleType)
    }
    assert modules <= set(MODULES.values())


@pytest.mark.parametrize("page", MODULES)
def test_names(page, anchors):
    module = importlib.import_module(MODULES[page])
    assert module.__doc__
    names = public(module)
    assert names
    assert not [name for name in names if undocumented(getattr(module, name))]
    # Without a docstring there is no place, for constants too. Some share the name of their file.
    places = {name: f"{module.__name__}.{name}" for name in names}
    assert not [
        name for name, place in places.items() if not {place, f"{place}.{name}"} & anchors[page]
    ]


@pytest.mark.parametrize("page", MODULES)
def test_methods(page):
    module = importlib.import_module(MODULES[page])
    classes = [getattr(module, name) for name in public(module)]
    assert not [
        f"{each.__name__}.{name}"
        for each in classes
        if isinstance(each, type)
        for name in own_methods(each)
        if undocumented(getattr(each, name))
    ]


def test_the_first_page_leads_to_every_name(site):
    text = (site / "api/index.html").read_text()
    for name in lf.__all__:
        assert re.search(rf'<a [^>]*href="[^"]+"[^>]*><code>(lf\.)?{name}</code></a>', text), name
