"""Devices: what they could do, what is reached of it, and how well that is known.

All constants are in `hardware.yaml` beside this module; a person's own file goes over it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from hark.errors import SettingsError, did_you_mean
from hark.loop.references import merge
from hark.runs.settings import Dtype
from hark.settings import Settings, read_settings_file

TRUSTED_ERROR = 0.25
"""Rates that miss their own measurements by more are no calibration."""
HARDWARE = Path(__file__).with_name("hardware.yaml")


class Basis(enum.IntEnum):
    """How well a figure is known; of several that enter, the least counts."""

    MEASURED = 0
    """Counted: a configuration's parameters, the tokens of files, arithmetic with them."""
    CALIBRATED = 1
    """By rates that hark has measured on such a device, within the sizes it measured at."""
    EXTRAPOLATED = 2
    """By data sheets, published rates or assumptions; or far from what was measured."""

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Figure:
    """A number of a forecast."""

    value: float
    basis: Basis


class PassRates(Settings):
    """What one kind of work reaches of a device's peaks."""

    products: float = Field(gt=0)
    """Fraction of the peak rate of matrix products."""
    traffic: float | None = Field(default=None, gt=0)
    """Fraction of the memory bandwidth; none where it is contained in `products`."""
    block_seconds: float = Field(ge=0)
    """Host time for one layer of one pass."""


class Rates(Settings):
    """What hark reaches of a device's peaks."""

    basis: Literal["assumed", "calibrated"]
    """Whether hark has measured it on such a device."""
    source: str
    """Who says so, or when it was measured."""
    dtype: Dtype | None = None
    """The precision it was measured in; none for all."""
    widths: tuple[int, int] | None = None
    """Widths of the models it was measured with, least and largest."""
    fit_error: float | None = Field(default=None, ge=0)
    """Largest relative error of forecast training and forward times on what was measured itself."""
    training: PassRates
    """Forward and backward."""
    forward: PassRates
    """Forward without gradients, on whole sequences."""
    decoding: PassRates
    """One more token for each row."""
    update: PassRates
    """Clipping and Adam."""
    data_seconds_per_token: float = Field(ge=0)
    """Packing of batches, on the host."""
    link: float = Field(default=0.7, gt=0, le=1)
    """Fraction of the bandwidth between devices."""


class Device(Settings):
    """One kind of device."""

    description: str
    """What it is."""
    source: str
    """Where its peaks are from."""
    memory_gigabytes: float = Field(gt=0)
    """Memory, in 10⁹ bytes."""
    bfloat16_teraflops: float = Field(gt=0)
    """Peak rate of dense bfloat16 products with float32 sums, 10¹² operations a second."""
    float32_teraflops: float = Field(gt=0)
    """The same in float32."""
    memory_gigabytes_per_second: float = Field(gt=0)
    """Memory bandwidth."""
    link_gigabytes_per_second: float = Field(gt=0)
    """To the other devices of its machine, one direction."""
    network_gigabytes_per_second: float = Field(gt=0)
    """To devices of other machines, one direction."""
    devices_per_machine: int = Field(ge=1)
    """How many share a machine."""
    price_per_hour: float = Field(ge=0)
    """Dollars."""
    price_source: str
    """Where the price is from."""
    is_cpu: bool = False
    """A CPU does arithmetic, traffic and host work in turn, a GPU at the same time; and on a CPU
    bfloat16 is autocast over float32 weights."""
    rates: Rates
    """What is reached of the peaks."""

    def peak(self, dtype: str) -> float:
        """Operations a second."""
        per_second = self.bfloat16_teraflops if dtype == "bfloat16" else self.float32_teraflops
        return per_second * 1e12

    @property
    def bandwidth(self) -> float:
        """Bytes a second of its memory."""
        return self.memory_gigabytes_per_second * 1e9

    @property
    def memory(self) -> float:
        """Bytes."""
        return self.memory_gigabytes * 1e9

    def between(self, devices: int) -> float:
        """Bytes a second that each of so many devices receives, in practice, when all get all.

        Between machines each byte enters a machine once, over the network of all its devices, and
        goes round inside.
        """
        peak = self.link_gigabytes_per_second
        if devices > self.devices_per_machine:
            peak = min(peak, self.devices_per_machine * self.network_gigabytes_per_second)
        return peak * 1e9 * self.rates.link

    def basis(self, width: int, dtype: str) -> Basis:
        """How well a time on this device is known for a model of that width.

        Calibrated in the precision and up to a factor of two beyond the widths that were measured,
        by rates that fit what was measured.
        """
        rates = self.rates
        if rates.fit_error is not None and rates.fit_error > TRUSTED_ERROR:
            return Basis.EXTRAPOLATED
        if rates.basis == "assumed" or rates.widths is None or rates.dtype not in (None, dtype):
            return Basis.EXTRAPOLATED
        least, most = rates.widths
        return Basis.CALIBRATED if least / 2 <= width <= 2 * most else Basis.EXTRAPOLATED


class Hardware(Settings):
    """A file of devices."""

    devices: dict[str, Device]
    """By the name given to `--gpu`."""

    def device(self, name: str) -> Device:
        """Raises: SettingsError for an unknown name."""
        if name not in self.devices:
            raise SettingsError(
                f"unknown device '{name}'{did_you_mean(name, self.devices)}; known: "
                f"{', '.join(self.devices)}; add yours in a file given with --hardware"
            )
        return self.devices[name]


def load_hardware(own: Path | None = None) -> Hardware:
    """The constants that come with hark, those of a person's own file laid over them.

    Raises: SettingsError for a file that is not of this form.
    """
    values = read_settings_file(HARDWARE)
    if own is not None:
        values = merge(values, read_settings_file(own))
    return Hardware.parse(values, where=f"hardware '{own or HARDWARE.name}'")


def write_hardware(path: Path, name: str, device: Device) -> None:
    """Write a file of one device, such as `--hardware` reads."""
    values: dict[str, Any] = {"devices": {name: device.model_dump(mode="json")}}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    path.write_text(f"# Written by `hark plan --calibrate`.\n{text}", encoding="utf-8")
