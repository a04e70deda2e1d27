"""Load tests with locust: users that scan, register, list and err, and thresholds they must meet."""
