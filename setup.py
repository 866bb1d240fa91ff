"Package metadata comes from settings.ini: edit there, not here."
import shlex
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

config = ConfigParser(delimiters=['='])
config.read('settings.ini', encoding='utf-8')
settings = config['DEFAULT']
package = settings['lib_path']


def requirements(key):
    "The requirements listed under `key`, one string each."
    return shlex.split(settings.get(key, ''))


# `eval_requirements` becomes the extra `eval`, and so on
extras = {key.removesuffix('_requirements'): requirements(key) for key in settings if key.endswith('_requirements')}

setup(
    name=settings['lib_name'],
    version=settings['version'],
    description=settings['description'],
    long_description=Path('README.md').read_text(encoding='utf-8') if Path('README.md').exists() else '',
    long_description_content_type='text/markdown',
    author=settings['author'],
    author_email=settings['author_email'],
    url=settings['git_url'],
    project_urls={
        'Documentation': settings['doc_host'] + settings['doc_baseurl'],
        'Changelog': f"{settings['git_url']}/blob/{settings['branch']}/CHANGELOG.md",
        'Issues': f"{settings['git_url']}/issues",
    },
    classifiers=[
        'Development Status :: 3 - Alpha',
        f"Intended Audience :: {settings['audience']}",
        f"Natural Language :: {settings['language']}",
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3 :: Only',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    keywords=settings['keywords'].split(),
    license='Apache-2.0',
    python_requires=f">={settings['min_python']}",
    packages=find_packages(include=[package, f'{package}.*']),
    package_data={package: ['weights/**/*', 'data/**/*']},
    install_requires=requirements('requirements'),
    extras_require=extras,
    entry_points={
        'console_scripts': settings['console_scripts'].split(),
        'nbdev': [f'{package}={package}._modidx:d'],
    },
)
