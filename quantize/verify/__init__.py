"""The parity gate: every hop from the trained model to the HTTP server is compared."""
