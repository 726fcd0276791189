"""What setup.cfg can't say: the addresses of the project, which all follow from one."""

from setuptools import setup

# Of the repository, without a slash at its end. Empty: the package names no address.
ADDRESS = ""
PATHS = {"Changelog": "/blob/main/CHANGELOG.md", "Issues": "/issues", "Source": ""}

setup(project_urls={name: ADDRESS + path for name, path in PATHS.items()} if ADDRESS else {})
