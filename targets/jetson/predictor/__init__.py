"""Latency, memory and energy of a network on a Jetson, predicted from its layers; nothing here is measured."""

from targets.jetson.predictor.predict import Interval, LayerPrediction, Prediction, predict
from targets.jetson.predictor.staircase import Staircase, staircase

__all__ = ["Interval", "LayerPrediction", "Prediction", "Staircase", "predict", "staircase"]
