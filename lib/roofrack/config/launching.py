"""What Hydra's launchers ask to compose a job: the same configuration, of sections made once.

A launcher composes each job of a sweep with the loader of its context. Hydra's own takes 0.3 s;
this one asks it for the first job and puts the others together (`assembling`) in milliseconds.
It stands in for Hydra's loader by the published interface, `hydra.core.config_loader`.
"""

import copy
from collections.abc import Sequence
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.plugins.config_source import ConfigSource
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, flag_override, open_dict

from roofrack.config import assembling, composition
from roofrack.config.loading import options_of, searching, stamp_of
from roofrack.config.overrides import parsed


class SweepLoader(ConfigLoader):
    """Hydra's loader, with `load_sweep_config` made fast; it travels to workers by pickle.

    Files that change while a sweep runs change nothing in it.
    """

    def __init__(self, loader: ConfigLoader, hydra_overrides: Sequence[str]) -> None:
        """Take Hydra's loader, and those overrides of the sweep that are Hydra's own."""
        self.loader = loader
        self.hydra = tuple(hydra_overrides)
        self.folder = composition.command_line_dir(loader)
        self.stamp = stamp_of(self.folder, self.hydra)
        self.template: DictConfig | None = None  # the node `hydra` of the first job

    def __getstate__(self) -> dict[str, Any]:
        """Leave the template at home: classes of plugins in it cannot be relied on to travel."""
        return self.__dict__ | {"template": None}

    def calibrated(self, job: Sequence[str]) -> list[str]:
        """Return the overrides of a job and those that name its calibration, if it is `auto`."""
        return composition.calibrated(job, self.loader, searching(self.hydra), self.stamp)

    def load_sweep_config(
        self, master_config: DictConfig, sweep_overrides: list[str]
    ) -> DictConfig:
        """Return the configuration of a job: what Hydra's own loader would compose."""
        if searching(self.hydra):
            return self.loader.load_sweep_config(master_config, sweep_overrides)
        words = [parsed(text) for text in sweep_overrides]
        config, choices = composition.composed(
            [o for o in words if not o.is_hydra_override()],
            options_of(self.loader, self.hydra, self.stamp),
            self.folder,
            self.stamp,
        )
        if self.template is None:
            self.template = self.loader.load_sweep_config(master_config, sweep_overrides).hydra
        with (
            assembling.uncollected(),
            open_dict(config),
            flag_override(config, "no_deepcopy_set_nodes", True),
        ):
            config.hydra = copy.deepcopy(self.template)
        _tell(config.hydra, master_config, words, choices)
        for override in words:
            if override.is_hydra_override():
                OmegaConf.update(config, override.key_or_group, override.value())
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def load_configuration(
        self,
        config_name: str | None,
        overrides: list[str],
        run_mode: RunMode,
        from_shell: bool = True,
        validate_sweep_overrides: bool = True,
    ) -> DictConfig:
        """Ask Hydra's loader."""
        return self.loader.load_configuration(
            config_name, overrides, run_mode, from_shell, validate_sweep_overrides
        )

    def get_search_path(self) -> ConfigSearchPath:
        """Ask Hydra's loader."""
        return self.loader.get_search_path()

    def get_sources(self) -> list[ConfigSource]:
        """Ask Hydra's loader."""
        return self.loader.get_sources()

    def list_groups(self, parent_name: str) -> list[str]:
        """Ask Hydra's loader."""
        return self.loader.list_groups(parent_name)

    def get_group_options(
        self,
        group_name: str,
        results_filter: ObjectType | None = ObjectType.CONFIG,
        config_name: str | None = None,
        overrides: list[str] | None = None,
    ) -> list[str]:
        """Ask Hydra's loader."""
        return self.loader.get_group_options(group_name, results_filter, config_name, overrides)

    def compute_defaults_list(
        self, config_name: str | None, overrides: list[str], run_mode: RunMode
    ) -> Any:
        """Ask Hydra's loader."""
        return self.loader.compute_defaults_list(config_name, overrides, run_mode)


def _tell(
    hydra: DictConfig, master: DictConfig, words: Sequence[Override], choices: dict[str, Any]
) -> None:
    """Write into the node `hydra` what differs from job to job."""
    texts = [(o.input_line or "", o.is_hydra_override()) for o in words]
    of_sweep = cast(list[str], OmegaConf.to_container(master.hydra.overrides.hydra))
    hydra.overrides.task = [text for text, its_own in texts if not its_own]
    hydra.overrides.hydra = of_sweep + [text for text, its_own in texts if its_own]
    with open_dict(hydra):
        hydra.runtime.choices.update(choices)
    name = hydra.job.config.override_dirname
    hydra.job.override_dirname = name.item_sep.join(
        sorted(
            (o.input_line or "").replace("=", name.kv_sep, 1)
            for o in words
            if not o.is_hydra_override() and o.key_or_group not in name.exclude_keys
        )
    )
