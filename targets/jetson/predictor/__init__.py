"""Latency, memory and energy of a network on a Jetson, predicted from its layers; nothing here is measured."""

from targets.jetson.predictor.predict import Interval, LayerPrediction, Prediction, predict

__all__ = ["Interval", "LayerPrediction", "Prediction", "predict"]
