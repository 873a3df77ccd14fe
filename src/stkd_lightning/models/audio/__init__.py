"""Audio networks of this project: log-mel front end, convolutional and recurrent taggers."""
