"""What is worked out from history at leisure: `backtest` judges the forecast, `floor_sizing` says how much to reserve."""
