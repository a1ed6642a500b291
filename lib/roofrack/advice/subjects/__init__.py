"""One module for each subject of advice: `propose` yields changes of a case to be tried."""
