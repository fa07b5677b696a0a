"""What is worked out at leisure: `backtest` judges the forecast, `floor_sizing` sizes the floor, `estimate` models serving profiles."""
