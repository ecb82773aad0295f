"""Data sets: readers, splits, pictures in memory, and the synthetic fleet."""

from toolkit.datasets.loading import LoadedPictures, load_pictures
from toolkit.datasets.records import Dataset, Labels, Protocol, Record, labels_of
from toolkit.datasets.settings import DataSettings, SplitSettings, open_dataset
from toolkit.datasets.splits import Splits, make_splits

__all__ = [
    "DataSettings",
    "Dataset",
    "Labels",
    "LoadedPictures",
    "Protocol",
    "Record",
    "SplitSettings",
    "Splits",
    "labels_of",
    "load_pictures",
    "make_splits",
    "open_dataset",
]
