"""The report: charts, findings and the page that carries them."""
